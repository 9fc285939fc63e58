"""A real HTTP server that gives vectors as OpenAI's protocol says, and gets them wrong when told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.support.embedders import HashEmbedder

Entries = list[dict[str, Any]]


class EmbeddingEndpoint:
    """Vectors of `HashEmbedder`, five times as long as they should be: endpoints differ in that.

    `busy` are replies to give first, status and headers. `most_texts` is answered with 413 beyond it; a text that holds
    `poison`, with 400. `change` alters the entries of a reply. While `hangs`, nothing is answered until `release` is set.
    """

    def __init__(self) -> None:
        self.url = ""
        self.model = HashEmbedder()
        self.encodings = {"base64", "float"}
        self.busy: list[tuple[int, dict[str, str]]] = []
        self.most_texts = 1_000
        self.poison: str | None = None
        self.hangs = False
        self.change: Callable[[Entries], Entries] = lambda entries: entries
        self.release = threading.Event()
        self.requests: list[list[str]] = []
        self.headers: list[dict[str, str]] = []

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        texts = body["input"]
        self.requests.append(texts)
        if self.hangs:
            self.release.wait(30)
        if self.busy:
            status, headers = self.busy.pop(0)
            return status, headers, {"error": {"message": texts[0]}}
        if body["encoding_format"] not in self.encodings:
            return 422, {}, {"error": {"message": "encoding_format"}}
        if len(texts) > self.most_texts:
            return 413, {}, {"error": {"message": "too many texts"}}
        if self.poison is not None and any(self.poison in text for text in texts):
            return 400, {}, {"error": {"message": texts[0]}}
        as_text = body["encoding_format"] == "base64"
        vectors = 5.0 * self.model.embed(texts)
        entries = [
            {"index": i, "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_text else vector.tolist()}
            for i, vector in enumerate(np.float32(vectors))
        ]
        return 200, {}, {"data": self.change(entries)}

    def counts(self) -> list[int]:
        """How many texts each request held."""
        return [len(texts) for texts in self.requests]


@contextmanager
def serve_embeddings() -> Iterator[EmbeddingEndpoint]:
    """The server on a free port, until the block ends; `url` names its model."""
    state = EmbeddingEndpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.headers.append(dict(self.headers))
            status, headers, content = state.reply(body)
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1#hash"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
