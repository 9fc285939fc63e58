from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from affinage.database.tables.answers import answer
from affinage.database.tables.datasets import dataset, dataset_row, split_side
from affinage.database.tables.feedback import feedback
from affinage.database.tables.registry import training_run, variant
from affinage.datasets.read import load_rows
from affinage.datasets.rows import SftRow
from affinage.datasets.snapshots import Snapshot, get_snapshot, latest_snapshot
from affinage.datasets.splits import user_group
from affinage.lineage.export import export_user
from affinage.lineage.forget import ForgetReport, affected, forget_user
from affinage.tuning import golden
from affinage.tuning.golden import GoldenRow
from tests.support.answers import AT
from tests.support.loop import CALLS, Loop


def put_variant(loop: Loop, variant_id: str, *, adapter: str | None, dataset_id: str | None) -> None:
    with loop.database.write() as connection:
        connection.execute(
            insert(variant).values(
                variant_id=variant_id,
                organisation="default",
                assistant="calls",
                spec={},
                adapter=adapter,
                dataset_id=dataset_id,
                tainted=False,
                created_at=AT,
            )
        )


def user_on(loop: Loop, snapshot: Snapshot, split: str) -> str:
    """Somebody whose rows are on this side."""
    with loop.database.read() as connection:
        query = select(dataset_row.c.user_name).where(dataset_row.c.dataset_id == snapshot.dataset_id, dataset_row.c.split == split)
        return str(connection.execute(query.order_by(dataset_row.c.user_name).limit(1)).scalar_one())


@pytest.fixture
def trained(called: Loop) -> tuple[Loop, Snapshot]:
    snapshot = called.build(CALLS, "extraction")
    put_variant(called, "learnt", adapter="calls@11111111", dataset_id=snapshot.dataset_id)
    put_variant(called, "reuses", adapter="calls@11111111", dataset_id=None)
    put_variant(called, "other", adapter="calls@22222222", dataset_id="another")
    return called, snapshot


def tainted_variants(loop: Loop) -> set[str]:
    with loop.database.read() as connection:
        return set(connection.execute(select(variant.c.variant_id).where(variant.c.tainted.is_(True))).scalars())


def test_forgetting_removes_everything_and_taints_what_learnt_from_it(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    report = forget_user(loop.database, loop.blobs, user=user)
    assert report.as_dict() == {
        "interactions": 9,
        "feedback": 9,
        "dataset_rows": 9,
        "tainted_snapshots": [snapshot.dataset_id],
        "tainted_adapters": ["calls@11111111"],
    }
    assert tainted_variants(loop) == {"learnt", "reuses"}
    with loop.database.read() as connection:
        for table in (answer, feedback, dataset_row):
            assert connection.execute(select(func.count()).select_from(table).where(table.c.user_name == user)).scalar_one() == 0
        assert connection.execute(select(split_side).where(split_side.c.group_id == user_group(user))).first() is None
        after = get_snapshot(connection, snapshot.dataset_id)
        assert latest_snapshot(connection, assistant="calls", kind="extraction") is None
    assert after.tainted
    assert len(load_rows(loop.blobs, after)) == 216 - 9


def test_no_file_keeps_a_word_of_a_forgotten_user(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    written = f"{user}0word0".encode()
    files = [file for file in loop.blobs._folder.rglob("*") if file.is_file()]
    assert any(written in file.read_bytes() for file in files)
    forget_user(loop.database, loop.blobs, user=user)
    files = [file for file in loop.blobs._folder.rglob("*") if file.is_file()]
    assert files
    assert not any(written in file.read_bytes() for file in files)


def test_copies_for_training_and_proving_lose_the_rows_as_well(trained: tuple[Loop, Snapshot], tmp_path: Path) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    rows = [row for row in load_rows(loop.blobs, snapshot, "train") if isinstance(row, SftRow)]
    theirs = [row for row in rows if row.group == f"unit-{user}"]
    others = [row for row in rows if row.group != f"unit-{user}"]
    golden.save(loop.blobs, "digest", [GoldenRow(row.messages, row.target, -0.1, -2.0) for row in (*theirs[:2], *others[:3])])
    copy = tmp_path / "run" / "rows.jsonl"
    copy.parent.mkdir()
    copy.write_text(theirs[0].target)
    with loop.database.write() as connection:
        connection.execute(update(variant).where(variant.c.variant_id == "learnt").values(adapter_digest="digest"))
        connection.execute(
            insert(training_run).values(
                run_id="r",
                assistant="calls",
                dataset_id=snapshot.dataset_id,
                recipe={},
                state="finished",
                folder=str(copy.parent),
                metrics={},
                created_at=AT,
            )
        )
    forget_user(loop.database, loop.blobs, user=user)
    assert [row.target for row in golden.load(loop.blobs, "digest")] == [row.target for row in others[:3]]
    assert not copy.exists()


def test_a_dry_run_says_the_same_and_changes_nothing(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    dry = forget_user(loop.database, loop.blobs, user=user, dry_run=True)
    with loop.database.read() as connection:
        assert get_snapshot(connection, snapshot.dataset_id) == snapshot
    assert tainted_variants(loop) == set()
    assert forget_user(loop.database, loop.blobs, user=user) == dry


def test_doing_it_again_does_nothing(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    forget_user(loop.database, loop.blobs, user=user)
    assert forget_user(loop.database, loop.blobs, user=user) == ForgetReport(0, 0, 0, (), ())
    assert forget_user(loop.database, loop.blobs, user="nobody") == ForgetReport(0, 0, 0, (), ())


def test_an_adapter_did_not_learn_from_the_test_split(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    report = forget_user(loop.database, loop.blobs, user=user_on(loop, snapshot, "test"))
    assert report.tainted_snapshots == (snapshot.dataset_id,)
    assert report.tainted_adapters == ()
    assert tainted_variants(loop) == set()


def test_a_killed_run_is_finished_by_the_next(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    first, second = user_on(loop, snapshot, "train"), user_on(loop, snapshot, "test")
    stale = loop.blobs.get(snapshot.blob)
    forget_user(loop.database, loop.blobs, user=first)
    # As if it had been killed after its transaction, before it deleted the old file.
    loop.blobs.put(snapshot.blob, stale)
    with loop.database.write() as connection:
        connection.execute(update(dataset).values(manifest={"stale_blobs": [snapshot.blob]}))
    forget_user(loop.database, loop.blobs, user=second)
    assert not loop.blobs.exists(snapshot.blob)
    with loop.database.read() as connection:
        assert "stale_blobs" not in get_snapshot(connection, snapshot.dataset_id).manifest


def test_a_new_dataset_after_forgetting_has_none_of_the_users_rows(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    forget_user(loop.database, loop.blobs, user=user)
    again = loop.build(CALLS, "extraction")
    assert again.dataset_id != snapshot.dataset_id
    assert all(row.group != f"unit-{user}" for row in load_rows(loop.blobs, again))
    assert not again.tainted


def test_a_user_gets_all_that_is_kept_of_them_and_nobody_elses(trained: tuple[Loop, Snapshot]) -> None:
    loop, snapshot = trained
    user = user_on(loop, snapshot, "train")
    with loop.database.read() as connection:
        found = export_user(connection, user=user)
        counted = affected(connection, user=user)
    assert (len(found["interactions"]), len(found["feedback"]), len(found["dataset_rows"])) == (9, 9, 9)
    assert found["tainted_snapshots"] == list(counted.tainted_snapshots)
    text = json.dumps(found)
    assert user in text
    assert not any(f"agent{other:02d}" in text for other in range(24) if f"agent{other:02d}" != user)
