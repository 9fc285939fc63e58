from __future__ import annotations

import pytest
from sqlalchemy import select

from affinage.database.tables.index import generation
from affinage.errors import RefusedError, UnknownObjectError
from affinage.identity.rights import reader
from affinage.index.generations import build_generation, rollback, switch
from tests.support.embedders import HashEmbedder
from tests.support.indexing import Crash, World

TUNED = {"name": "tuned", "adapter": "guichet@12345678"}


@pytest.fixture
def tuned(world: World) -> World:
    for n in range(6):
        world.write(f"{n}.md", f"# Rule {n}\n\nRule {n} about leave in march.\n\n## More\n\nSame text in all.")
    world.sync()
    world.embedders["tuned"] = HashEmbedder(version="tuned", dimensions=32)
    return world


def states(world: World) -> dict[str, str]:
    with world.database.read() as connection:
        return {row.generation_id: row.state for row in connection.execute(select(generation))}


def test_new_embedder_builds_a_generation_beside_the_one_that_serves(tuned: World) -> None:
    serving = tuned.generation()
    before = [p.chunk_id for p in tuned.search("leave")]
    report = build_generation(tuned.clients(), "handbook", embedder=TUNED)
    assert (report.state, report.documents) == ("ready", 6)
    assert tuned.generation() == serving
    assert [p.chunk_id for p in tuned.search("leave")] == before
    assert states(tuned) == {serving: "serving", report.generation_id: "ready"}


def test_each_distinct_text_is_embedded_once_and_no_source_is_read(tuned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinage.documents.sources.folder.FolderSource.read", None)
    report = build_generation(tuned.clients(), "handbook", embedder=TUNED)
    embedded = tuned.embedders["tuned"].embedded
    assert len(embedded) == len(set(embedded)) == report.chunks.embedded
    again = build_generation(tuned.clients(), "handbook", embedder=TUNED)
    assert (again.generation_id, again.chunks.embedded, again.chunks.written) == (report.generation_id, 0, 0)


def test_chunks_keep_their_names_across_embedders(tuned: World) -> None:
    before = {p.chunk_id for p in tuned.search("leave", k=50)}
    build_generation(tuned.clients(), "handbook", embedder=TUNED)
    switch(tuned.clients(), "handbook")
    assert {p.chunk_id for p in tuned.search("leave", k=50)} == before


def test_switch_and_rollback_serve_up_to_date_documents_with_their_own_embedder(tuned: World) -> None:
    old = tuned.generation()
    built = build_generation(tuned.clients(), "handbook", embedder=TUNED)
    tuned.write("0.md", "# Rule 0\n\nRule zero was rewritten before the switch.")
    report = switch(tuned.clients(), "handbook")
    assert (report.generation_id, report.previous) == (built.generation_id, old)
    tuned.sync()
    assert tuned.search("rewritten before the switch")[0].text == "Rule zero was rewritten before the switch."
    tuned.remove("1.md")
    tuned.write("2.md", "# Rule 2\n\nRule two was rewritten after the switch.")
    tuned.sync()
    back = rollback(tuned.clients(), "handbook")
    assert back.generation_id == old == tuned.generation()
    assert tuned.search("rewritten after the switch")[0].text == "Rule two was rewritten after the switch."
    tuned.check_search()
    assert states(tuned) == {old: "serving", built.generation_id: "retired"}


def test_every_following_generation_gets_changes_deletions_and_rights_in_one_sync(tuned: World) -> None:
    built = build_generation(tuned.clients(), "handbook", embedder=TUNED)
    tuned.write("0.md", "# Rule 0\n\nRule zero was rewritten.")
    tuned.remove("1.md")
    tuned.allow(("2.md", ["group:hr"]), ("**", ["everyone"]))
    tuned.sync()
    found = tuned.searcher().search("rule", generations={"handbook": built.generation_id}, principals=reader("alice").principals, k=50)
    assert {p.document for p in found} == {f"handbook/{n}.md" for n in (0, 3, 4, 5)}
    assert any("rewritten" in p.text for p in found)


def test_third_switch_drops_the_oldest_generation_with_its_vectors(tuned: World) -> None:
    old = tuned.generation()
    build_generation(tuned.clients(), "handbook", embedder=TUNED)
    switch(tuned.clients(), "handbook")
    tuned.embedders["third"] = HashEmbedder(version="third")
    build_generation(tuned.clients(), "handbook", embedder={"name": "third", "adapter": None})
    report = switch(tuned.clients(), "handbook")
    assert report.dropped == [old]
    assert old not in tuned.store.generations()
    assert tuned.cache.get("hash-1-64", tuned.cache.digests()) == {}
    tuned.check_caches()


def test_generation_that_lost_a_row_is_refused_and_the_other_goes_on(tuned: World) -> None:
    serving = tuned.generation()
    built = build_generation(tuned.clients(), "handbook", embedder=TUNED).generation_id
    tuned.store.delete(built, [next(iter(tuned.store.scan(built))).row_id])
    with pytest.raises(RefusedError, match="rows") as refused:
        switch(tuned.clients(), "handbook")
    assert refused.value.reasons
    assert tuned.generation() == serving


def test_switch_without_a_built_generation_says_what_to_do(tuned: World) -> None:
    with pytest.raises(UnknownObjectError, match="rebuild"):
        switch(tuned.clients(), "handbook")
    with pytest.raises(UnknownObjectError):
        rollback(tuned.clients(), "handbook")
    with pytest.raises(UnknownObjectError):
        switch(tuned.clients(), "handbook", generation_id="nothing")


@pytest.mark.parametrize("step", ["cached", "intended", "written", "switched", "cleared"])
def test_build_that_was_killed_goes_on_where_it_stopped(tuned: World, step: str) -> None:
    tuned.crash_at = step
    with pytest.raises(Crash):
        build_generation(tuned.clients(), "handbook", embedder=TUNED)
    tuned.crash_at = None
    serving = tuned.generation()
    assert list(states(tuned).values()).count("building") == 1
    with pytest.raises(UnknownObjectError):
        switch(tuned.clients(), "handbook")
    embedded = len(tuned.embedders["tuned"].embedded)
    report = build_generation(tuned.clients(), "handbook", embedder=TUNED)
    assert report.state == "ready"
    assert len(tuned.embedders["tuned"].embedded) == embedded, "the cache had all of it"
    assert switch(tuned.clients(), "handbook").previous == serving
    tuned.contents()


def test_rebuild_restores_a_wiped_store_without_embedding(tuned: World) -> None:
    tuned.store.drop(tuned.generation())
    embedded = len(tuned.embedder.embedded)
    report = build_generation(tuned.clients(), "handbook")
    assert (report.generation_id, report.state, report.chunks.embedded) == (tuned.generation(), "serving", 0)
    assert len(tuned.embedder.embedded) == embedded
    tuned.check_search()


def test_new_extraction_reads_the_sources_again(tuned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinage.documents.extraction.dispatch.EXTRACT_FINGERPRINT", "extract-next")
    report = build_generation(tuned.clients(), "handbook")
    assert (report.state, report.chunks.embedded) == ("ready", 0)
    switch(tuned.clients(), "handbook")
    assert tuned.sync().chunks.embedded == 0
    tuned.check_caches()
    tuned.check_search()
