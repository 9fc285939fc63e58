"""What a service of vectors may get wrong, and nobody may believe."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from affinage.engines.pods import Pods
from affinage.engines.remote_embedder import RemoteEmbedder
from affinage.errors import DependencyError

FACTS = {"digest": "f1", "dimensions": 4, "max_tokens": 8}
TEXT = "le dossier 4711"


class EmbeddingServer:
    """Gives unit vectors along the first axis, unless `change` says otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.facts: dict[str, Any] = dict(FACTS)
        self.change: Callable[[list[Any]], list[Any]] = lambda vectors: vectors
        self.asked = 0

    def content(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/models":
            return {"data": [{"id": "base", "affinage": self.facts}]}
        self.asked += 1
        if path == "/v1/tokens":
            return {"tokens": [len(text.split()) for text in [body["input"]]], "affinage": self.facts}
        vectors = self.change([np.eye(4, dtype="<f4")[0] for _ in body["input"]])
        encoded = [base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() for vector in vectors]
        # From the last to the first: only `index` says which is which.
        data = [{"index": i, "embedding": vector} for i, vector in enumerate(encoded)][::-1]
        return {"data": data, "affinage": self.facts}


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    state = EmbeddingServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            content = json.dumps(state.content(self.path, json.loads(self.rfile.read(size) or b"{}"))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def embedder(server: EmbeddingServer) -> RemoteEmbedder:
    return RemoteEmbedder(Pods(server.url))


def test_vectors_come_in_the_order_of_their_index(server: EmbeddingServer, embedder: RemoteEmbedder) -> None:
    server.change = lambda vectors: [np.eye(4)[i % 4] for i, _ in enumerate(vectors)]
    found = embedder.embed([TEXT] * 70)
    assert found.dtype == np.float32
    # Two requests, of 64 texts and of 6: each begins again at the first axis.
    np.testing.assert_array_equal(found, np.eye(4)[[i % 4 for i in [*range(64), *range(6)]]])
    assert server.asked == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda vectors: vectors[:-1], "shape"),
        (lambda vectors: [*vectors, vectors[0]], "shape"),
        (lambda vectors: [vector[:3] for vector in vectors], "shape"),
        (lambda vectors: [vector * 0 for vector in vectors], "length 1"),
        (lambda vectors: [vector * 1.01 for vector in vectors], "length 1"),
        (lambda vectors: [*vectors[:-1], vectors[0] * np.nan], "length 1"),
        (lambda vectors: [*vectors[:-1], vectors[0] * np.inf], "length 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_vectors_that_cannot_be_are_refused(
    server: EmbeddingServer, embedder: RemoteEmbedder, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    server.change = change
    with pytest.raises(DependencyError, match=message) as caught:
        embedder.embed([TEXT, TEXT])
    assert not caught.value.retryable
    assert "4711" not in str(caught.value)


def test_vectors_of_another_model_than_before_are_refused(server: EmbeddingServer, embedder: RemoteEmbedder) -> None:
    embedder.embed([TEXT])
    server.facts = {**FACTS, "digest": "f2"}
    for call in (lambda: embedder.embed([TEXT]), lambda: embedder.count_tokens(TEXT)):
        with pytest.raises(DependencyError, match="another model") as caught:
            call()
        assert not caught.value.retryable


def test_tokens_of_a_text_are_asked_for_once(server: EmbeddingServer, embedder: RemoteEmbedder) -> None:
    assert [embedder.count_tokens(TEXT) for _ in range(3)] == [3, 3, 3]
    assert server.asked == 1


def test_a_generator_is_no_embedder(server: EmbeddingServer, embedder: RemoteEmbedder) -> None:
    server.facts = {"digest": "f1"}
    with pytest.raises(DependencyError, match="no embedder"):
        _ = embedder.fingerprint
