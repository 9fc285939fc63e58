"""A text that the embedder will not take costs its document, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select

from affinage.database.tables.index import document
from affinage.engines.endpoint_embedder import EndpointEmbedder
from affinage.engines.protocols import RefusedTextsError
from affinage.errors import DependencyError, DocumentError
from affinage.index.canaries import TEXTS, ChangedEmbedderError
from affinage.index.embedding import vectors_for
from affinage.index.generations import build_generation
from tests.support.embedders import HashEmbedder
from tests.support.embedding_endpoint import EmbeddingEndpoint, serve_embeddings
from tests.support.indexing import World


@pytest.fixture
def server(world: World) -> Iterator[EmbeddingEndpoint]:
    """The endpoint that embeds the world's documents, and refuses texts that say `poison`."""
    with serve_embeddings() as running:
        running.poison = "poison"
        world.embedders["package:minilm"] = made(running)  # type: ignore[assignment]
        yield running


def made(server: EmbeddingEndpoint) -> EndpointEmbedder:
    return EndpointEmbedder(server.url, egress_hosts=["127.0.0.1"], rng=np.random.default_rng(0))


def states(world: World) -> dict[str, tuple[str, str | None]]:
    query = select(document.c.path, document.c.state, document.c.failure)
    with world.database.read() as connection:
        return {row.path: (row.state, (row.failure or {}).get("reason")) for row in connection.execute(query)}


def test_the_other_texts_are_embedded_and_cached(world: World, server: EmbeddingEndpoint) -> None:
    texts = {f"d{i}": f"text {i}" for i in range(70)} | {"bad": "poison"}
    refused: set[str] = set()
    found, embedded = vectors_for(texts, embedder=made(server), cache=world.cache, refused=refused)
    assert (refused, embedded, set(found)) == ({"bad"}, 70, texts.keys() - {"bad"})
    expected = HashEmbedder().embed([texts[name] for name in found])
    np.testing.assert_allclose(np.stack(list(found.values())), expected, atol=1e-6)
    again, embedded = vectors_for({name: texts[name] for name in found}, embedder=made(server), cache=world.cache)
    assert (embedded, len(again)) == (0, 70)


def test_without_a_place_to_name_it_a_refused_text_is_an_error(world: World, server: EmbeddingEndpoint) -> None:
    embedder = made(server)
    with pytest.raises(RefusedTextsError):
        vectors_for({"bad": "poison", "good": "text"}, embedder=embedder, cache=world.cache)
    assert set(world.cache.get(embedder.fingerprint, ["bad", "good"])) == {"good"}


def test_a_document_with_a_refused_text_fails_and_the_others_are_indexed(world: World, server: EmbeddingEndpoint) -> None:
    world.write("a.md", "The card costs 25 euros.")
    world.write("b.md", "This is poison.")
    world.write("c.md", "A visa costs 99 euros.")
    report = world.sync()
    counts = report.documents
    assert (report.status, counts.added, counts.failed, report.chunks.embedded) == ("partial", 2, 1, 2)
    assert states(world) == {"a.md": ("indexed", None), "b.md": ("failed", "not_embedded"), "c.md": ("indexed", None)}
    assert {path for path, *_ in world.contents()} == {"a.md", "c.md"}
    # The same bytes wait for their next trial, which comes after an hour.
    asked = len(server.requests)
    assert world.sync().documents.failed == 1
    assert len(server.requests) == asked
    server.poison = None
    world.clock.at += timedelta(hours=1)
    assert world.sync().status == "complete"
    assert states(world)["b.md"] == ("indexed", None)


def test_a_changed_document_that_is_refused_is_served_as_it_was(world: World, server: EmbeddingEndpoint) -> None:
    world.write("a.md", "The card costs 25 euros.")
    world.sync()
    before = world.contents()
    world.write("a.md", "The poison costs 25 euros.")
    report = world.sync()
    assert (report.status, report.documents.changed, report.documents.failed, report.chunks.deleted) == ("partial", 0, 1, 0)
    assert world.contents() == before
    world.write("a.md", "The card costs 30 euros.")
    assert world.sync().documents.changed == 1
    assert "30" in world.contents()[0][6]


def test_a_server_that_refuses_everything_fails_the_run_and_no_document(world: World, server: EmbeddingEndpoint) -> None:
    world.write("a.md", "The card costs 25 euros.")
    world.sync()
    world.write("b.md", "A visa costs 99 euros.")
    server.poison = ""
    with pytest.raises(DependencyError, match="took before"):
        world.sync()
    assert states(world) == {"a.md": ("indexed", None)}


def test_a_canary_that_is_refused_is_not_taken_for_a_document(world: World, server: EmbeddingEndpoint) -> None:
    world.write("a.md", "The card costs 25 euros.")
    world.sync()
    world.write("b.md", "A visa costs 99 euros.")
    server.poison = TEXTS[0]
    with pytest.raises(ChangedEmbedderError):
        world.sync()
    assert states(world) == {"a.md": ("indexed", None)}


def test_a_build_names_the_document_that_its_embedder_refuses(world: World, server: EmbeddingEndpoint) -> None:
    world.write("a.md", "The card costs 25 euros.")
    world.write("b.md", "A visa costs 99 euros.")
    world.sync()
    server.poison = "visa"
    world.embedders["strict"] = EndpointEmbedder(  # type: ignore[assignment]
        f"{server.url}?revision=2", egress_hosts=["127.0.0.1"], rng=np.random.default_rng(0)
    )
    world.declare(embedder="strict")
    with pytest.raises(DocumentError, match=r"`b\.md`"):
        build_generation(world.clients(), "handbook")
