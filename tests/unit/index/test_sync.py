from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from affinage.database.tables.index import chunk, document, document_revision, index_run, lease
from affinage.documents.sources import FolderSource
from affinage.errors import ConflictError, DependencyError, UnknownObjectError
from affinage.index.preview import preview
from affinage.index.sync import sync_source
from tests.support.embedders import HashEmbedder
from tests.support.indexing import Crash, World

SENTENCES = [
    f"Section {n} explains the rule number {n} about {word}, with enough words to stand as a sentence of its own."
    for n, word in enumerate(["leave", "pay", "travel", "badge", "visa", "lunch", "union", "parking", "laptop", "phone"] * 6)
]
LONG = "# Handbook\n\n" + "\n\n".join(SENTENCES)


def test_first_sync_adds_every_document_and_a_second_one_embeds_nothing(world: World) -> None:
    world.write("a.md", "# Leave\n\nAnnual leave is 25 days.")
    world.write("b/c.txt", "Pay day is the 28th of each month.")

    first, second = world.sync(), world.sync()

    assert (first.status, first.documents.seen, first.documents.added, first.chunks.embedded) == ("complete", 2, 2, 2)
    assert (second.documents.unchanged, second.documents.added, second.chunks.embedded, second.chunks.written) == (2, 0, 0, 0)


def test_unchanged_corpus_reads_no_file_and_writes_one_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the files were older than the scan's clock grain.
    monkeypatch.setattr("affinage.documents.sources.listed.CLOCK_GRAIN_NS", -(10**15))
    world.write("a.md", "# Leave\n\nAnnual leave is 25 days.")
    world.sync()
    before = _ledger(world)

    def no_read(self: FolderSource, path: str, **_: object) -> bytes:
        raise AssertionError(f"read {path}")

    monkeypatch.setattr(FolderSource, "read", no_read)
    world.embedders.clear()  # not even opened
    report = world.sync()

    assert report.documents.unchanged == 1
    assert _ledger(world) == before
    with world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(index_run)).scalar_one() == 2


def test_edited_paragraph_embeds_at_most_three_chunks(world: World) -> None:
    world.write("long.md", LONG)
    total = world.sync().chunks.embedded
    assert total > 8
    world.write("long.md", LONG.replace("rule number 20", "new rule number 20"))

    report = world.sync()

    assert report.documents.changed == 1
    assert 1 <= report.chunks.embedded <= 3
    assert report.chunks.written <= 3
    assert report.chunks.deleted <= 3
    world.check()


def test_paragraph_at_the_top_moves_every_position_and_rewrites_at_most_three_rows(world: World) -> None:
    world.write("long.md", LONG)
    world.sync()
    world.write("long.md", LONG.replace("# Handbook\n\n", "# Handbook\n\nA new first paragraph that nobody has read before.\n\n"))

    report = world.sync()

    assert report.chunks.embedded <= 3
    assert report.chunks.written <= 3
    world.check()


def test_rename_embeds_nothing_and_writes_no_row(world: World) -> None:
    world.write("old.md", LONG)
    world.sync()
    rows = {row.row_id for row in world.rows()}
    world.rename("old.md", "deep/new.md")

    report = world.sync()

    assert (report.documents.moved, report.documents.added, report.documents.deleted) == (1, 0, 0)
    assert (report.chunks.embedded, report.chunks.written, report.chunks.deleted, report.chunks.patched) == (0, 0, 0, 0)
    assert {row.row_id for row in world.rows()} == rows
    assert world.search("leave")[0].document == "handbook/deep/new.md"


def test_move_into_a_stricter_folder_hides_at_once_and_only_patches(world: World) -> None:
    world.allow(("public/**", ["everyone"]), ("hr/**", ["group:hr"]))
    world.write("public/a.md", "# Leave\n\nAnnual leave is 25 days.")
    world.sync()
    world.rename("public/a.md", "hr/a.md")

    report = world.sync()

    assert (report.documents.moved, report.chunks.embedded, report.chunks.written, report.chunks.patched) == (1, 0, 0, 1)
    assert world.search("annual leave") == []
    assert len(world.search("annual leave", user="bob", groups=["hr"])) == 1


def test_swapped_names_end_with_the_content_of_each(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.write("b.md", "Pay day is the 28th.")
    world.sync()
    world.rename("a.md", "tmp")
    world.rename("b.md", "a.md")
    world.rename("tmp", "b.md")

    assert world.sync().chunks.embedded == 0
    world.check()


def test_one_of_two_identical_documents_may_go(world: World) -> None:
    world.write("a.md", LONG)
    world.write("b.md", LONG)
    world.sync()
    world.remove("a.md")
    world.sync()
    world.check()
    assert {p.document for p in world.search("rule", k=50)} == {"handbook/b.md"}


def test_one_bad_document_fails_with_its_reason_and_the_others_go_on(world: World) -> None:
    world.write("good.md", "Annual leave is 25 days.")
    (world.docs / "bad.pdf").write_bytes(b"not a pdf")

    report = world.sync()

    assert (report.status, report.documents.failed, report.documents.added) == ("partial", 1, 1)
    with world.database.read() as connection:
        row = connection.execute(select(document).where(document.c.path == "bad.pdf")).one()
    assert (row.state, row.failure["reason"]) == ("failed", "damaged")
    assert world.sync().documents.failed == 1, "it is reported again until it is repaired"


def test_failing_document_keeps_its_last_good_revision_and_is_reported(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.write("a.md", "")

    report = world.sync()

    assert (report.status, report.documents.failed, report.documents.changed) == ("partial", 1, 0)
    assert [p.text for p in world.search("annual leave")] == ["Annual leave is 25 days."]
    world.write("a.md", "Annual leave is 25 days.")
    repaired = world.sync()
    assert (repaired.status, repaired.documents.unchanged, repaired.chunks.embedded) == ("complete", 1, 0)


def test_files_of_other_formats_are_seen_and_are_no_failure(world: World) -> None:
    world.write("logo.png", "PNG")
    world.write("a.md", "Annual leave is 25 days.")
    report = world.sync()
    assert (report.status, report.documents.seen, report.documents.unsupported, report.documents.failed) == ("complete", 2, 1, 0)


def test_document_without_a_rule_is_indexed_and_nobody_may_read_it(world: World) -> None:
    world.allow(("public/**", ["everyone"]))
    world.write("secret.md", "The launch code is zero.")
    assert world.sync().chunks.written == 1
    assert world.search("launch code", user="carol", groups=["hr", "law"]) == []


def test_many_missing_documents_are_held_until_confirmed_while_changes_are_applied(world: World) -> None:
    for n in range(30):
        world.write(f"{n:02}.md", f"Rule number {n} about leave.")
    world.sync()
    for n in range(25):
        world.remove(f"{n:02}.md")
    world.write("29.md", "Rule twenty-nine was rewritten.")

    held = world.sync()

    assert (held.status, held.documents.held, held.documents.deleted, held.documents.changed) == ("held", 25, 0, 1)
    assert len(world.search("leave", k=50)) == 30
    confirmed = world.sync(confirm_deletes=True)
    assert (confirmed.status, confirmed.documents.deleted, confirmed.chunks.deleted) == ("complete", 25, 25)
    world.check()


def test_renaming_many_documents_is_not_taken_for_a_deletion(world: World) -> None:
    for n in range(30):
        world.write(f"{n:02}.md", f"Rule number {n} about leave.")
    world.sync()
    world.rename("29.md", "keep.md")
    (world.docs / "moved").mkdir()
    for n in range(29):
        world.rename(f"{n:02}.md", f"moved/{n:02}.md")
    report = world.sync()
    assert (report.status, report.documents.moved, report.documents.held, report.chunks.embedded) == ("complete", 30, 0, 0)


def test_empty_listing_deletes_nothing(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.remove("a.md")
    report = world.sync()
    assert (report.status, report.documents.held, report.documents.deleted) == ("held", 1, 0)
    assert world.search("annual leave")


def test_folder_that_is_not_there_fails_and_deletes_nothing(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.docs.rename(world.folder / "elsewhere")
    with pytest.raises(DependencyError):
        world.sync(confirm_deletes=True)
    assert world.search("annual leave")
    with world.database.read() as connection:
        statuses = connection.execute(select(index_run.c.status).order_by(index_run.c.fence)).scalars().all()
        owner = connection.execute(select(lease.c.owner)).scalar()
    assert list(statuses) == ["complete", "failed"]
    assert owner is None


def test_undeclared_source_is_an_error(world: World) -> None:
    with pytest.raises(UnknownObjectError):
        sync_source(world.clients(), "nothing")


def test_revocation_and_grant_count_at_the_next_query_before_any_sync(world: World) -> None:
    world.allow(("a.md", ["everyone"]), ("b.md", ["group:hr"]))
    world.write("a.md", "Annual leave is 25 days.")
    world.write("b.md", "Annual bonus is one month.")
    world.sync()
    world.allow(("a.md", ["group:hr"]), ("b.md", ["everyone"]))

    assert [p.document for p in world.search("annual")] == ["handbook/b.md"]
    assert {p.document for p in world.search("annual", user="bob", groups=["hr"])} == {"handbook/a.md", "handbook/b.md"}
    report = world.sync()
    assert (report.chunks.patched, report.chunks.embedded, report.chunks.written) == (2, 0, 0)
    world.check()


def test_rights_that_change_back_while_a_patch_is_cut_short_are_still_found(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.allow(("**", ["group:hr"]))
    assert world.crash(at="patched")  # the rows say group:hr, the ledger does not know
    world.allow(("**", ["everyone"]))
    assert len(world.search("annual leave")) == 1
    world.sync()
    world.check()


def test_rights_declared_during_a_run_decide_for_documents_it_adds(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    done = False

    def narrow(step: str) -> None:
        nonlocal done
        if step == "written" and not done:
            done = True
            world.allow(("**", ["group:hr"]))

    sync_source(world.clients(reached=narrow), "handbook")

    assert done
    assert world.search("annual leave") == []
    assert world.search("annual leave", user="bob", groups=["hr"])
    world.check()


def test_text_that_left_its_last_document_leaves_the_vector_cache(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.write("b.md", "Pay day is the 28th.")
    world.sync()
    world.remove("a.md")
    world.sync()
    with world.database.read() as connection:
        referenced = set(connection.execute(select(chunk.c.embed_hash)).scalars())
    assert world.cache.digests() == referenced
    assert len(referenced) == 1


def test_text_that_moves_to_another_document_in_one_run_is_not_embedded_again(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.write("b.md", "Pay day is the 28th.")
    world.sync()
    world.write("a.md", "Something else.")
    world.write("b.md", "Annual leave is 25 days.")
    report = world.sync()
    assert report.chunks.embedded == 1
    world.check()


def test_text_that_moves_to_a_document_of_a_later_batch_is_not_embedded_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinage.index.upkeep.BATCH_DOCUMENTS", 1)
    world.write("a.md", "Annual leave is 25 days.")
    world.write("b.md", "Pay day is the 28th.")
    world.sync()
    world.write("a.md", "Something else.")
    world.write("b.md", "Annual leave is 25 days.")
    assert world.sync().chunks.embedded == 1
    world.check()


@pytest.mark.parametrize(("before", "after"), [(["group:hr"], ["everyone"]), (["everyone"], ["group:hr"])])
def test_edit_and_other_rights_in_one_run_reach_kept_rows_and_new_ones(world: World, before: list[str], after: list[str]) -> None:
    world.allow(("**", before))
    world.write("long.md", LONG)
    world.sync()
    world.allow(("**", after))
    world.write("long.md", LONG.replace("rule number 20", "new rule number 20"))
    world.sync()
    world.check()


def test_late_delete_of_a_stopped_process_does_not_remove_what_was_put_back(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.write("a.md", "Another text.")

    def stopped(step: str) -> None:
        if step != "switched":
            return
        # Before it deletes the old row, somebody else takes over and indexes the old text, which is back.
        with world.database.write() as connection:
            connection.execute(update(lease).values(owner=None, until=None))
        world.write("a.md", "Annual leave is 25 days.")
        sync_source(world.clients(reached=lambda _: None), "handbook")

    with pytest.raises(ConflictError):
        sync_source(world.clients(reached=stopped), "handbook")

    assert [p.text for p in world.search("annual leave")] == ["Annual leave is 25 days."]
    world.sync()
    world.check()


def test_dry_run_counts_and_writes_nothing(world: World) -> None:
    world.write("a.md", LONG)
    expected = preview(world.clients(), "handbook")
    assert world.rows() == []
    assert expected.tokens
    done = world.sync()
    assert (expected.documents, expected.chunks) == (done.documents, done.chunks)
    world.write("a.md", LONG.replace("rule number 20", "new rule number 20"))
    world.write("b.md", "Pay day is the 28th.")
    expected, done = preview(world.clients(), "handbook"), world.sync()
    assert (expected.documents, expected.chunks) == (done.documents, done.chunks)


def test_embedder_that_changed_under_its_name_is_refused(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.embedders["package:minilm"] = HashEmbedder(version="2")
    world.write("a.md", "Annual leave is 30 days.")
    with pytest.raises(ConflictError, match="rebuild"):
        world.sync()
    with pytest.raises(ConflictError, match="rebuild"):
        world.search("leave")


@pytest.mark.parametrize("fault", ["count", "nan", "length"])
def test_embedder_that_gives_wrong_vectors_stops_the_run(world: World, fault: str) -> None:
    class Broken(HashEmbedder):
        def embed(self, texts):  # type: ignore[no-untyped-def]
            vectors = super().embed(texts)
            return {"count": vectors[:-1], "nan": vectors * float("nan"), "length": vectors * 2}[fault]

    world.embedders["package:minilm"] = Broken()
    world.write("a.md", "Annual leave is 25 days.")
    with pytest.raises(DependencyError):
        world.sync()
    assert world.rows() == []


def test_second_caller_waits_and_returns_the_result_of_the_first(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    inside, go_on = threading.Event(), threading.Event()
    results = {}

    def pause(step: str) -> None:
        if step == "written":
            inside.set()
            assert go_on.wait(30)

    def first() -> None:
        results["first"] = sync_source(world.clients(reached=pause), "handbook")

    def second() -> None:
        results["second"] = sync_source(world.clients(progress=lambda _: go_on.set()), "handbook")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join(60)

    assert results["second"].run_id == results["first"].run_id
    assert results["second"].documents.added == 1
    with world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(index_run)).scalar_one() == 1


def test_process_that_lost_its_lease_makes_nothing_visible(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.sync()
    world.write("a.md", "Old text of a stopped process.")

    def stopped(step: str) -> None:
        if step != "written":
            return
        # Meanwhile somebody else takes over and indexes a newer text with narrower rights.
        with world.database.write() as connection:
            connection.execute(update(lease).values(owner=None, until=None))
        world.write("a.md", "New text for few.")
        world.allow(("**", ["group:hr"]))
        sync_source(world.clients(reached=lambda _: None), "handbook")

    with pytest.raises(ConflictError):
        sync_source(world.clients(reached=stopped), "handbook")

    assert [p.text for p in world.search("text", user="bob", groups=["hr"])] == ["New text for few."]
    assert world.search("old text stopped process") == []
    world.sync()
    world.check()


STEPS = [
    "surveyed",
    "moved",
    "cached",
    "intended",
    "written",
    "switched",
    "deleted",
    "cleared",
    "removed",
    "unpatched",
    "patched",
    "purged",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("change", ["edit", "delete", "rename", "rights"])
def test_killed_at_a_step_then_changed_again_ends_as_a_cold_index(world: World, template: Path, step: str, change: str) -> None:
    for n in range(4):
        world.write(f"{n}.md", f"# Rule {n}\n\nRule number {n} about leave.")
    world.sync()
    world.write("0.md", "# Rule 0\n\nRule zero was edited.")
    world.write("new.md", "# New\n\nA new rule about pay in march.")
    world.remove("1.md")
    world.rename("2.md", "two.md")
    world.allow(("0.md", ["group:hr"]), ("3.md", ["group:hr"]), ("**", ["everyone"]))
    assert world.crash(at=step), f"the run never came to {step}"
    embedded = len(world.embedder.embedded)
    world.check_search()
    if change == "edit":
        world.write("new.md", "# New\n\nThe new rule was edited before recovery.")
    elif change == "delete":
        world.remove("new.md")
    elif change == "rename":
        world.rename("new.md", "renamed.md")
    else:
        world.allow(("new.md", ["group:law"]), ("**", ["everyone"]))

    world.sync()

    world.check(template=template)
    if step not in {"surveyed", "moved"}:
        searches = 6 * 2  # by `check_search`, before and after
        assert len(world.embedder.embedded) - embedded <= searches + (change == "edit")


def test_store_that_writes_half_a_batch_and_fails_is_repaired_by_the_next_run(world: World) -> None:
    world.write("a.md", LONG)
    upsert = world.store.upsert

    def half(generation, rows):  # type: ignore[no-untyped-def]
        upsert(generation, rows[: len(rows) // 2])
        raise DependencyError("lancedb", "The disk is full.")

    world.store.upsert = half  # type: ignore[method-assign]
    with pytest.raises(DependencyError):
        world.sync()
    assert world.search("rule") == []
    del world.store.upsert  # type: ignore[method-assign]
    embedded = len(world.embedder.embedded)
    report = world.sync()
    assert report.chunks.embedded == 0
    assert len(world.embedder.embedded) == embedded
    world.check()


def test_crash_is_not_swallowed(world: World) -> None:
    world.write("a.md", "Annual leave is 25 days.")
    world.crash_at = "written"
    with pytest.raises(Crash):
        world.sync()


def _ledger(world: World) -> list[object]:
    with world.database.read() as connection:
        return [connection.execute(select(table)).all() for table in (document, document_revision, chunk)]
