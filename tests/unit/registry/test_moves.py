"""Moves of the champion: ordered by the database, refused for what may not serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from affinage.answers.variant import Variant
from affinage.database.engine import Database
from affinage.database.tables.registry import alias_move, variant
from affinage.errors import ConflictError, RefusedError, UnknownObjectError
from affinage.registry.countersign import check_countersignature, countersign
from affinage.registry.moves import move_champion, pointer_of, retire_variant, rollback_champion
from affinage.registry.variants import champion_of, save_variant

BARE = Variant("appels", "package:smollm2", "b" * 64, None, None, "p" * 64)
TUNED = replace(BARE, adapter="appels@aaaaaaaa", adapter_digest="a" * 64)


@pytest.fixture
def move(database: Database, clock, new_id):
    """Moves `appels` in a transaction of its own."""

    def _move(to: str, **options):
        with database.write() as connection:
            known = {"assistant": "appels", "actor": "test", "reason": "because", "now": clock(), "new_id": new_id}
            return move_champion(connection, to=to, **{**known, **options})

    return _move


@pytest.fixture
def rollback(database: Database, clock, new_id):
    def _rollback():
        with database.write() as connection:
            return rollback_champion(connection, assistant="appels", actor="test", reason="worse", now=clock(), new_id=new_id)

    return _rollback


def save(database: Database, clock, *variants: Variant) -> list[str]:
    with database.write() as connection:
        for one in variants:
            save_variant(connection, one, organisation="default", now=clock())
            if one.adapter is not None:
                countersign(connection, variant_id=one.variant_id, gate_id="gate-1", now=clock())
    return [one.variant_id for one in variants]


def prompts(count: int) -> list[Variant]:
    return [replace(BARE, prompt_digest=f"prompt-{i}") for i in range(count)]


def test_the_first_move_makes_a_champion(database: Database, clock, move) -> None:
    (bare,) = save(database, clock, BARE)
    with database.read() as connection:
        assert champion_of(connection, "appels") is None
    moved = move(bare, expected_version=0)
    assert (moved.variant_id, moved.previous_variant_id, moved.version) == (bare, None, 1)
    with database.read() as connection:
        assert champion_of(connection, "appels") == BARE


def test_a_decision_made_on_an_older_champion_is_refused(database: Database, clock, move) -> None:
    first, second, third = save(database, clock, *prompts(3))
    move(first)
    move(second, expected_version=1)
    with pytest.raises(ConflictError, match="version 1 was expected, 2 is there"):
        move(third, expected_version=1)
    with database.read() as connection:
        assert pointer_of(connection, "appels").variant_id == second


def test_moving_to_what_serves_already_moves_nothing(database: Database, clock, move) -> None:
    first, second = save(database, clock, *prompts(2))
    move(first)
    once = move(second)
    again = move(second)
    assert (again.move_id, again.version) == (once.move_id, once.version)


def test_every_move_is_recorded_before_anything_follows_it(database: Database, clock, move) -> None:
    (bare,) = save(database, clock, BARE)
    move(bare, kind="override", actor="dana", reason="tested by hand")
    with database.read() as connection:
        (row,) = connection.execute(select(alias_move)).all()
    assert (row.alias, row.variant_id, row.kind, row.version, row.actor, row.reason) == (
        "champion", bare, "override", 1, "dana", "tested by hand",
    )  # fmt: skip
    assert row.done_at is None


def test_an_adapter_without_countersignature_may_not_serve(database: Database, clock, move) -> None:
    with database.write() as connection:
        save_variant(connection, TUNED, organisation="default", now=clock())
    with pytest.raises(RefusedError) as refused:
        move(TUNED.variant_id)
    assert "not countersigned" in refused.value.reasons[0]


def test_a_tainted_or_retired_variant_may_not_serve(database: Database, clock, move) -> None:
    first, second = save(database, clock, *prompts(2))
    with database.write() as connection:
        connection.execute(update(variant).where(variant.c.variant_id == first).values(tainted=True))
        assert retire_variant(connection, variant_id=second, now=clock())
        assert not retire_variant(connection, variant_id=second, now=clock())
    for one in (first, second):
        with pytest.raises(RefusedError, match="may not serve"):
            move(one)


def test_what_serves_is_not_retired(database: Database, clock, move) -> None:
    (bare,) = save(database, clock, BARE)
    move(bare)
    with pytest.raises(RefusedError) as refused, database.write() as connection:
        retire_variant(connection, variant_id=bare, now=clock())
    assert refused.value.reasons == ("It serves `appels` now.",)


def test_a_variant_of_another_assistant_is_unknown_here(database: Database, clock, move) -> None:
    (other,) = save(database, clock, replace(BARE, assistant="guichet"))
    with pytest.raises(UnknownObjectError):
        move(other)


def test_rollback_goes_back_step_by_step_and_then_refuses(database: Database, clock, move, rollback) -> None:
    first, second, third = save(database, clock, *prompts(3))
    for one in (first, second, third):
        move(one)
    assert rollback().variant_id == second
    assert rollback().variant_id == first
    with pytest.raises(RefusedError) as refused:
        rollback()
    assert refused.value.reasons == ("No variant served before the present one.",)


def test_rollback_to_a_tainted_variant_is_refused(database: Database, clock, move, rollback) -> None:
    first, second = save(database, clock, *prompts(2))
    move(first)
    move(second)
    with database.write() as connection:
        connection.execute(update(variant).where(variant.c.variant_id == first).values(tainted=True))
    with pytest.raises(RefusedError):
        rollback()
    with database.read() as connection:
        assert pointer_of(connection, "appels").variant_id == second


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(st.integers(0, 3), st.just("rollback")), max_size=12))
def test_moves_and_rollbacks_behave_like_a_stack(database: Database, clock, move, rollback, steps) -> None:
    ids = save(database, clock, *prompts(4))
    with database.write() as connection:
        for table in (alias_move,):
            connection.execute(table.delete())
        connection.exec_driver_sql("DELETE FROM serving_pointer")
    stack: list[str] = []
    for step in steps:
        if step == "rollback":
            if len(stack) > 1:
                rollback()
                stack.pop()
            else:
                with pytest.raises(RefusedError):
                    rollback()
        else:
            move(ids[step])
            if not stack or stack[-1] != ids[step]:
                stack.append(ids[step])
        with database.read() as connection:
            pointer = pointer_of(connection, "appels")
        assert (pointer.variant_id if pointer else None) == (stack[-1] if stack else None)


def test_the_countersignature_fits_one_variant_and_one_set_of_files(database: Database, clock) -> None:
    save(database, clock, TUNED)
    with database.read() as connection:
        check_countersignature(connection, variant_id=TUNED.variant_id, adapter_digest=TUNED.adapter_digest)
        with pytest.raises(RefusedError, match="does not fit its files"):
            check_countersignature(connection, variant_id=TUNED.variant_id, adapter_digest="c" * 64)


@pytest.mark.parametrize(
    "values", [{"gate_id": "gate-2"}, {"countersignature": "0" * 64}, {"spec": {**vars(TUNED), "base_digest": "c" * 64}}]
)
def test_a_record_changed_after_signing_no_longer_fits(database: Database, clock, values) -> None:
    save(database, clock, TUNED)
    with database.write() as connection:
        connection.execute(update(variant).where(variant.c.variant_id == TUNED.variant_id).values(**values))
    with pytest.raises(RefusedError, match="does not fit"), database.read() as connection:
        check_countersignature(connection, variant_id=TUNED.variant_id, adapter_digest=TUNED.adapter_digest)


def test_a_signature_of_one_variant_does_not_serve_another(database: Database, clock) -> None:
    other = replace(TUNED, prompt_digest="q" * 64)
    save(database, clock, TUNED)
    with database.write() as connection:
        save_variant(connection, other, organisation="default", now=clock())
        row = connection.execute(select(variant).where(variant.c.variant_id == TUNED.variant_id)).one()
        values = {"countersignature": row.countersignature, "gate_id": row.gate_id, "countersigned_at": clock()}
        connection.execute(update(variant).where(variant.c.variant_id == other.variant_id).values(**values))
    with pytest.raises(RefusedError, match="does not fit"), database.read() as connection:
        check_countersignature(connection, variant_id=other.variant_id, adapter_digest=other.adapter_digest)


def test_what_was_never_signed_is_refused_with_the_next_step(database: Database, clock) -> None:
    with database.write() as connection:
        save_variant(connection, TUNED, organisation="default", now=clock())
    with pytest.raises(RefusedError, match="not countersigned") as refused, database.read() as connection:
        check_countersignature(connection, variant_id=TUNED.variant_id, adapter_digest=TUNED.adapter_digest)
    assert "affinage adapter evaluate" in refused.value.hint
    with pytest.raises(UnknownObjectError), database.read() as connection:
        check_countersignature(connection, variant_id="nothing", adapter_digest=None)
