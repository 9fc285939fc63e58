"""What an endpoint of vectors may get wrong, and what its embedder makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from affinage.engines.endpoint_embedder import LONGEST_WAIT_SECONDS, EndpointEmbedder
from affinage.engines.protocols import RefusedTextsError
from affinage.errors import ConfigurationError, DependencyError
from tests.support.embedders import HashEmbedder
from tests.support.embedding_endpoint import EmbeddingEndpoint, Entries, serve_embeddings

TEXT = "le dossier 4711"
PROBE = [1]
# The first request, of one text, tells the length of a vector.


@pytest.fixture
def server() -> Iterator[EmbeddingEndpoint]:
    with serve_embeddings() as running:
        yield running


class Made:
    """Makes embedders that wait for nothing, and remembers how long they would have."""

    def __init__(self, server: EmbeddingEndpoint) -> None:
        self.server = server
        self.pauses: list[float] = []

    def __call__(self, options: str = "", **more: Any) -> EndpointEmbedder:
        rng = np.random.default_rng(7)
        return EndpointEmbedder(self.server.url + options, egress_hosts=["127.0.0.1"], rng=rng, sleep=self.pauses.append, **more)


@pytest.fixture
def make(server: EmbeddingEndpoint) -> Made:
    return Made(server)


def expected(texts: list[str]) -> np.ndarray:
    return HashEmbedder().embed(texts)


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_vectors_are_of_length_one_in_whatever_encoding_the_server_knows(server: EmbeddingEndpoint, make: Made, encoding: str) -> None:
    server.encodings = {encoding}
    found = make().embed([TEXT, "un"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected([TEXT, "un"]), atol=1e-6)


def test_permuted_rows_are_put_right_by_their_index(server: EmbeddingEndpoint, make: Made) -> None:
    server.change = lambda entries: entries[::-1]
    texts = [f"texte {i}" for i in range(70)]
    np.testing.assert_allclose(make().embed(texts), expected(texts), atol=1e-6)


def first(entries: Entries, embedding: Any) -> Entries:
    return [{**entries[0], "embedding": embedding}, *entries[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: entries[:-1], "1 vectors for 2 texts"),
        (lambda entries: [*entries, {**entries[0], "index": 2}], "3 vectors for 2 texts"),
        (lambda entries: [entries[0], entries[0]], "not one for each"),
        (lambda entries: first(entries, entries[0]["embedding"][:-1]), "not of one length"),
        (lambda entries: [{**entry, "embedding": entry["embedding"][:-1]} for entry in entries], "of 63 numbers, and 64 before"),
        (lambda entries: first(entries, [0.0] * 64), "zero or not of numbers"),
        (lambda entries: first(entries, [float("nan")] * 64), "zero or not of numbers"),
        (lambda entries: first(entries, [float("inf")] * 64), "zero or not of numbers"),
        (lambda entries: first(entries, None), "not of"),
        (lambda entries: first(entries, "@@@"), "not of the protocol"),
        (lambda entries: [{"embedding": [1.0]}], "not of the protocol"),
    ],
)
def test_vectors_that_cannot_be_are_refused(
    server: EmbeddingEndpoint, make: Made, change: Callable[[Entries], Entries], message: str
) -> None:
    server.encodings = {"float"}
    embedder = make()
    embedder.embed([TEXT])
    server.change = change
    with pytest.raises(DependencyError, match=message) as caught:
        embedder.embed([TEXT, TEXT])
    assert not caught.value.retryable
    assert "4711" not in str(caught.value)


def test_a_storm_of_busy_replies_is_waited_out(server: EmbeddingEndpoint, make: Made) -> None:
    embedder = make()
    embedder.embed([TEXT])
    server.busy = [(429, {}), (503, {}), (429, {"Retry-After": "7"}), (500, {}), (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})]
    np.testing.assert_allclose(embedder.embed(["un"]), expected(["un"]), atol=1e-6)
    assert len(make.pauses) == 5
    # Half to the whole of 0.5, 1, (7 as asked), 4 and 8 seconds.
    bounds = [(0.25, 0.5), (0.5, 1), (7, 7.7), (2, 4), (4, 8)]
    assert all(low <= pause <= high for pause, (low, high) in zip(make.pauses, bounds, strict=True))


def test_a_server_that_stays_busy_is_given_up_and_may_be_tried_later(server: EmbeddingEndpoint, make: Made) -> None:
    embedder = make()
    embedder.embed([TEXT])
    server.busy = [(429, {})] * 100
    with pytest.raises(DependencyError, match="status 429") as caught:
        embedder.embed([TEXT])
    assert caught.value.retryable
    assert LONGEST_WAIT_SECONDS / 2 < sum(make.pauses) <= LONGEST_WAIT_SECONDS
    assert len(make.pauses) < 10
    assert "4711" not in str(caught.value)


def test_a_server_that_asks_for_too_long_a_wait_is_given_up_at_once(server: EmbeddingEndpoint, make: Made) -> None:
    server.busy = [(429, {"Retry-After": "3600"})]
    with pytest.raises(DependencyError):
        make().embed([TEXT])
    assert make.pauses == []


def test_a_server_that_says_nothing_is_not_asked_twice(server: EmbeddingEndpoint, make: Made) -> None:
    embedder = make(read_seconds=0.1)
    server.hangs = True
    with pytest.raises(DependencyError) as caught:
        embedder.embed([TEXT])
    assert caught.value.retryable
    assert (server.counts(), make.pauses) == ([1], [])


def test_too_many_texts_are_halved_and_the_server_is_not_asked_for_so_many_again(server: EmbeddingEndpoint, make: Made) -> None:
    server.most_texts = 16
    embedder = make()
    texts = [f"texte {i:03d}" for i in range(64)]
    np.testing.assert_allclose(embedder.embed(texts), expected(texts), atol=1e-6)
    # 64 and 32 are refused, 16 goes; the other half is not tried in 32s.
    assert server.counts() == [*PROBE, 64, 32, 16, 16, 16, 16]
    embedder.embed(texts)
    assert server.counts()[-4:] == [16] * 4


def test_a_text_that_is_refused_alone_is_named_and_the_others_are_embedded(server: EmbeddingEndpoint, make: Made) -> None:
    server.poison = "poison"
    texts = [f"texte {i}" for i in range(8)]
    texts[5] = "texte poison 4711"
    embedder = make()
    with pytest.raises(RefusedTextsError) as caught:
        embedder.embed(texts)
    assert caught.value.positions == (5,)
    others = [i for i in range(8) if i != 5]
    np.testing.assert_allclose(caught.value.vectors[others], expected([texts[i] for i in others]), atol=1e-6)
    assert "4711" not in str(caught.value)
    # The fault was the text's: as many as before go into one request.
    server.requests.clear()
    embedder.embed(texts[:5])
    assert server.counts() == [5]


def test_a_server_that_refuses_what_it_took_before_fails_the_run_and_blames_no_text(server: EmbeddingEndpoint, make: Made) -> None:
    embedder = make()
    embedder.embed([TEXT])
    server.poison = ""  # in every text
    with pytest.raises(DependencyError, match="took before") as caught:
        embedder.embed(["un", "deux", "trois"])
    assert not isinstance(caught.value, RefusedTextsError)


def test_long_texts_are_sent_in_smaller_requests(server: EmbeddingEndpoint, make: Made) -> None:
    # Counted as bytes and 8: 6,000 + 8 each, so ten of them are 60,080, and eleven more than the 65,536 of a request.
    make("?max_tokens=8192").embed(["é" * 3_000] * 21)
    assert server.counts() == [*PROBE, 10, 10, 1]


def test_tokens_are_never_fewer_than_bytes(make: Made) -> None:
    assert [make().count_tokens(text) for text in ("", "é€")] == [8, 13]


def test_the_declaration_says_what_the_server_does_not(make: Made, server: EmbeddingEndpoint) -> None:
    assert (make().max_tokens, make("?max_tokens=8192").max_tokens) == (512, 8192)
    assert make().fingerprint == make("?max_tokens=8192").fingerprint
    prints = {make().fingerprint, make("?revision=2").fingerprint, make("-large").fingerprint}
    server.model = HashEmbedder(dimensions=128)
    assert len(prints | {make().fingerprint}) == 4


def test_the_key_is_sent_and_the_model_named(server: EmbeddingEndpoint, make: Made) -> None:
    make(api_key="k").embed([TEXT])
    assert server.headers[0]["Authorization"] == "Bearer k"


def test_a_host_that_is_not_declared_is_refused_before_any_connection() -> None:
    with pytest.raises(ConfigurationError, match=r"169\.254\.169\.254"):
        EndpointEmbedder("http://169.254.169.254/v1#m", egress_hosts=["127.0.0.1"], rng=np.random.default_rng(0))


@pytest.mark.parametrize("fragment", ["", "#", "#?max_tokens=512", "#m?max_tokens=63", "#m?max_tokens=many", "#m?dimensions=3", "#m?x"])
def test_an_address_that_names_no_model_is_refused(fragment: str) -> None:
    with pytest.raises(ConfigurationError, match="does not name"):
        EndpointEmbedder(f"http://127.0.0.1/v1{fragment}", egress_hosts=["127.0.0.1"], rng=np.random.default_rng(0))
