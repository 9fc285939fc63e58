"""Another model under the same name: noticed before a vector of it is stored."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select

from affinage.database.tables.index import canary, index_run
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.engines.endpoint_embedder import EndpointEmbedder
from affinage.errors import ConflictError
from affinage.index import canaries
from affinage.index.canaries import TEXTS, ChangedEmbedderError, agree
from affinage.index.generations import build_generation, rollback, switch
from affinage.index.sync import sync_source
from affinage.index.verify import verify
from tests.support.embedders import HashEmbedder
from tests.support.embedding_endpoint import serve_embeddings
from tests.support.indexing import World


def named_only(**options: str) -> HashEmbedder:
    """An embedder known by its name, as an endpoint is."""
    embedder = HashEmbedder(**options)  # type: ignore[arg-type]
    embedder.weights_in_fingerprint = False
    return embedder


@pytest.fixture
def indexed(world: World) -> World:
    """Two documents, indexed with such an embedder, whose record of embedded texts is empty."""
    world.embedder = world.embedders["package:minilm"] = named_only()
    world.write("a.md", "# Cards\n\nThe card costs 25 euros.\n")
    world.write("b.md", "# Passports\n\nA passport costs 86 euros.\n")
    world.sync()
    world.embedder.embedded.clear()
    return world


def stored(world: World) -> list[tuple[str, str]]:
    with world.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(canary.c.generation_id, canary.c.text).order_by(canary.c.text))]


def test_a_run_with_a_swapped_model_stops_before_it_embeds_a_document(indexed: World) -> None:
    before = indexed.contents()
    indexed.embedder.swap("2")
    indexed.write("a.md", "# Cards\n\nThe card costs 30 euros.\n")
    with pytest.raises(ChangedEmbedderError, match="gives other vectors") as caught:
        indexed.sync()
    assert "affinage index rebuild handbook" in caught.value.hint
    assert sorted(indexed.embedder.embedded) == sorted(TEXTS)
    assert indexed.contents() == before
    with indexed.database.read() as connection:
        assert connection.execute(select(index_run.c.status).order_by(index_run.c.fence.desc())).scalars().first() == "failed"
    # The former model comes back, and the edit is indexed.
    indexed.embedder.swap("1")
    assert indexed.sync().chunks.embedded == 1
    indexed.check()


def test_without_canaries_a_swap_goes_unnoticed(indexed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the comparison that notices."""
    monkeypatch.setattr(canaries, "MIN_COSINE", -2.0)
    indexed.embedder.swap("2")
    indexed.write("a.md", "# Cards\n\nThe card costs 30 euros.\n")
    assert indexed.sync().status == "complete"
    row = next(row for row in indexed.rows() if "30" in row.tokens)
    similar = [float(row.vector @ HashEmbedder(version=version).embed(indexed.embedder.embedded[-1:])[0]) for version in "12"]
    assert similar[0] < 0.9
    assert similar[1] > 0.999


def test_canaries_are_embedded_once_in_a_run_and_do_not_count_as_chunks(indexed: World) -> None:
    indexed.write("a.md", "# Cards\n\nThe card costs 30 euros.\n")
    indexed.write("c.md", "# Visas\n\nA visa costs 99 euros.\n")
    report = indexed.sync()
    assert (report.chunks.embedded, report.chunks.written) == (2, 2)
    assert sorted(indexed.embedder.embedded[:3]) == sorted(TEXTS)
    assert len(indexed.embedder.embedded) == 3 + 2


def test_a_run_that_embeds_nothing_asks_for_no_canary(indexed: World) -> None:
    indexed.embedder.swap("2")
    indexed.sync()
    indexed.rename("a.md", "c.md")
    indexed.allow(("**", ["group:hr"]))
    assert indexed.sync().documents.moved == 1
    indexed.write("d.md", "# Cards\n\nThe card costs 25 euros.\n")  # the text of another document: its vector is cached
    indexed.remove("b.md")
    report = indexed.sync()
    assert (report.documents.added, report.documents.deleted, report.chunks.embedded) == (1, 1, 0)
    assert indexed.embedder.embedded == []


def test_an_embedder_that_digests_its_weights_needs_no_canary(world: World) -> None:
    world.write("a.md", "The card costs 25 euros.")
    world.sync()
    world.write("a.md", "The card costs 30 euros.")
    world.sync()
    assert len(world.embedder.embedded) == 2
    assert stored(world) == []


def test_a_new_generation_under_a_fingerprint_that_is_in_use_must_give_the_same_vectors(indexed: World) -> None:
    declared = {"name": "other", "path": str(indexed.docs), "access": indexed.rules}
    indexed.declare()
    with indexed.database.write() as connection:
        apply_declarations(
            connection, parse_declarations({"sources": [declared]}, folder=indexed.folder, origin="test"), now=indexed.clock()
        )
    indexed.embedder.swap("2")
    with pytest.raises(ChangedEmbedderError, match="source `other`"):
        sync_source(indexed.clients(), "other")
    assert len(stored(indexed)) == 3
    indexed.embedder.swap("1")
    # The documents are the same, so their vectors come from the cache, which holds those of the former model.
    assert sync_source(indexed.clients(), "other").chunks.embedded == 0
    assert len(stored(indexed)) == 6


def test_the_new_model_gets_a_generation_of_its_own_and_the_old_one_is_left_behind(indexed: World) -> None:
    before = indexed.generation()
    indexed.embedder.swap("2")  # the endpoint serves another model, declared as such
    indexed.embedders["m?revision=2"] = named_only(version="2")
    indexed.declare(embedder="m?revision=2")
    built = build_generation(indexed.clients(), "handbook")
    switch(indexed.clients(), "handbook")
    assert indexed.generation() == built.generation_id != before
    indexed.write("a.md", "# Cards\n\nThe card costs 30 euros.\n")
    report = indexed.sync()
    assert (report.status, report.chunks.embedded) == ("complete", 1)
    with pytest.raises(ChangedEmbedderError):
        rollback(indexed.clients(), "handbook")
    assert indexed.generation() == built.generation_id
    # The next switch drops the oldest, with its canaries.
    indexed.embedders["m?revision=3"] = named_only(version="3")
    indexed.declare(embedder="m?revision=3")
    build_generation(indexed.clients(), "handbook")
    switch(indexed.clients(), "handbook")
    assert before not in {name for name, _ in stored(indexed)}
    assert len(stored(indexed)) == 6


def test_a_build_that_goes_on_compares_with_the_vectors_it_began_with(indexed: World) -> None:
    indexed.embedders["m"] = named_only(version="m")
    indexed.declare(embedder="m")
    built = build_generation(indexed.clients(), "handbook")
    indexed.write("a.md", "# Cards\n\nThe card costs 30 euros.\n")
    indexed.embedders["m"].swap("n")
    assert indexed.sync().status == "complete"  # the one that serves goes on; the one beside it is left behind
    with pytest.raises(ChangedEmbedderError):
        build_generation(indexed.clients(), "handbook")
    assert len({name for name, _ in stored(indexed)}) == 2
    indexed.embedders["m"].swap("m")
    assert build_generation(indexed.clients(), "handbook").generation_id == built.generation_id


def test_a_repair_embeds_nothing_with_a_swapped_model(indexed: World) -> None:
    indexed.store.delete(indexed.generation(), [row.row_id for row in indexed.rows()])
    indexed.cache.remove(indexed.cache.digests())
    indexed.embedder.swap("2")
    with pytest.raises(ChangedEmbedderError):
        verify(indexed.clients(), repair=True)
    assert indexed.rows() == []
    indexed.embedder.swap("1")
    assert verify(indexed.clients(), repair=True).embedded == 2
    indexed.check()


def test_a_model_swapped_behind_an_endpoint_is_noticed(world: World) -> None:
    with serve_embeddings() as server:
        made = EndpointEmbedder(server.url, egress_hosts=["127.0.0.1"], rng=np.random.default_rng(0))
        world.embedders["package:minilm"] = made  # type: ignore[assignment]
        world.write("a.md", "The card costs 25 euros.")
        world.sync()
        world.write("a.md", "The card costs 30 euros.")
        server.model.swap("2")
        with pytest.raises(ConflictError, match="gives other vectors"):
            world.sync()
        server.model.swap("1")
        assert world.sync().chunks.embedded == 1


@pytest.mark.parametrize(("cosine", "same"), [(1.0, True), (0.99995, True), (0.99985, False), (-1.0, False)])
def test_vectors_agree_up_to_the_last_bits_of_the_arithmetic(cosine: float, same: bool) -> None:
    one = np.float32([1, 0])
    other = np.float32([cosine, np.sqrt(1 - cosine**2)])
    assert agree({"x": one, "y": one}, {"x": one, "y": other}) is same


def test_vectors_of_another_length_and_no_numbers_do_not_agree() -> None:
    assert not agree({"x": np.float32([1, 0])}, {"x": np.float32([1, 0, 0])})
    assert not agree({"x": np.float32([1, 0])}, {"x": np.float32([np.nan, 0])})
