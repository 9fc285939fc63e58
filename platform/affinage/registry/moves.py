"""Which variant serves: moves of the champion, ordered by the database, recorded before anything follows them.

A move is one transaction: the pointer changes by compare-and-swap, and the row in `alias_move` says that MLflow's alias
must follow (`follow.py` does that, and may be killed and repeated). Light: no MLflow here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from affinage.database.tables.registry import alias_move, serving_pointer, variant
from affinage.errors import ConflictError, RefusedError, UnknownObjectError
from affinage.registry.names import CANDIDATE, CHAMPION

MoveKind = Literal["default", "promote", "override", "rollback"]
HELD = "held"
"""A move of the champion that did not take place, with its reason."""


@dataclass(frozen=True)
class Move:
    """A champion that has moved."""

    move_id: str
    assistant: str
    variant_id: str
    previous_variant_id: str | None
    version: int


@dataclass(frozen=True)
class Pointer:
    """What serves now; `version` rises by one with every move."""

    assistant: str
    variant_id: str
    previous_variant_id: str | None
    version: int


def pointer_of(connection: Connection, assistant: str) -> Pointer | None:
    """What serves `assistant` now, or None before the first move."""
    row = connection.execute(select(serving_pointer).where(serving_pointer.c.assistant == assistant)).first()
    return None if row is None else Pointer(row.assistant, row.variant_id, row.previous_variant_id, row.version)


def move_champion(
    connection: Connection,
    *,
    assistant: str,
    to: str,
    actor: str,
    reason: str,
    now: datetime,
    new_id: Callable[[], str],
    kind: MoveKind = "promote",
    expected_version: int | None = None,
) -> Move:
    """Make variant `to` serve `assistant`; needs a write transaction. If it serves already, nothing moves.

    Parameters
    ----------
    expected_version
        The pointer's version that the decision was made on; 0 means that nothing served. None: whatever is there now.

    Raises
    ------
    ConflictError
        If the champion has moved since.
    RefusedError
        If the variant is tainted or retired, or has an adapter that is not countersigned.
    UnknownObjectError
        If the assistant has no such variant.
    """
    check_may_serve(connection, assistant=assistant, variant_id=to)
    now_at = pointer_of(connection, assistant)
    version = now_at.version if now_at else 0
    if expected_version is not None and expected_version != version:
        raise _moved_meanwhile(assistant, expected_version, version)
    if now_at is not None and now_at.variant_id == to:
        return _last_move(connection, now_at)
    previous = now_at.variant_id if now_at else None
    if kind == "rollback":
        previous = _before(connection, assistant, to)
    _swap(connection, Pointer(assistant, to, previous, version + 1), now=now)
    move_id = new_id()
    _record(
        connection, move_id=move_id, assistant=assistant, alias=CHAMPION, variant_id=to, kind=kind, version=version + 1, actor=actor,
        reason=reason, now=now,
    )  # fmt: skip
    return Move(move_id, assistant, to, now_at.variant_id if now_at else None, version + 1)


def rollback_target(connection: Connection, assistant: str) -> tuple[str, int]:
    """The variant that served before the present one, and the pointer's version.

    Raises
    ------
    RefusedError
        If nothing served before.
    """
    pointer = pointer_of(connection, assistant)
    if pointer is None or pointer.previous_variant_id is None:
        raise RefusedError(
            f"Assistant `{assistant}` cannot be rolled back.",
            reasons=["No variant served before the present one."],
            hint=f"`affinage adapter list --assistant {assistant}` shows what could be promoted instead.",
        )
    return pointer.previous_variant_id, pointer.version


def rollback_champion(
    connection: Connection,
    *,
    assistant: str,
    actor: str,
    reason: str,
    now: datetime,
    new_id: Callable[[], str],
    expected_version: int | None = None,
) -> Move:
    """Make the variant that served before the present one serve again; repeated, it goes further back.

    Raises
    ------
    RefusedError
        If nothing served before, or what did may not serve any more.
    ConflictError
        If the champion has moved since `expected_version`.
    """
    target, version = rollback_target(connection, assistant)
    return move_champion(
        connection,
        assistant=assistant,
        to=target,
        actor=actor,
        reason=reason,
        now=now,
        new_id=new_id,
        kind="rollback",
        expected_version=version if expected_version is None else expected_version,
    )


def record_held(connection: Connection, *, assistant: str, variant_id: str, reason: str, now: datetime, new_id: Callable[[], str]) -> None:
    """Record why the champion did not move to `variant_id`; the same reason again is one record."""
    of_variant = (alias_move.c.assistant == assistant) & (alias_move.c.alias == CHAMPION) & (alias_move.c.variant_id == variant_id)
    query = select(alias_move.c.kind, alias_move.c.reason).where(of_variant).order_by(alias_move.c.created_at.desc()).limit(1)
    last = connection.execute(query).first()
    if last is None or (last.kind, last.reason) != (HELD, reason):
        values = {"move_id": new_id(), "assistant": assistant, "alias": CHAMPION, "variant_id": variant_id, "kind": HELD, "version": None}
        why = {"actor": "controller", "reason": reason, "created_at": now, "done_at": now}
        connection.execute(insert(alias_move).values(**values, **why))


def set_candidate(
    connection: Connection,
    *,
    assistant: str,
    variant_id: str | None,
    actor: str,
    reason: str,
    now: datetime,
    new_id: Callable[[], str],
) -> str:
    """Record that the alias `candidate` is to name `variant_id` (None: nothing); returns the move's id."""
    move_id = new_id()
    _record(
        connection, move_id=move_id, assistant=assistant, alias=CANDIDATE, variant_id=variant_id, kind="candidate", version=None,
        actor=actor, reason=reason, now=now,
    )  # fmt: skip
    return move_id


def retire_variant(connection: Connection, *, variant_id: str, now: datetime) -> bool:
    """Make sure that the variant never serves again; returns whether it could until now.

    Raises
    ------
    RefusedError
        If it serves now.
    """
    serving = connection.execute(select(serving_pointer.c.assistant).where(serving_pointer.c.variant_id == variant_id)).scalar()
    if serving is not None:
        raise RefusedError(
            f"Variant `{variant_id}` is not retired.",
            reasons=[f"It serves `{serving}` now."],
            hint=f"Promote another one or roll back first: `affinage adapter rollback {serving}`.",
        )
    same = (variant.c.variant_id == variant_id) & variant.c.retired_at.is_(None)
    return connection.execute(update(variant).where(same).values(retired_at=now)).rowcount == 1


def check_may_serve(connection: Connection, *, assistant: str, variant_id: str) -> None:
    """Refuse a variant that is not the assistant's, is tainted or retired, or whose adapter is not countersigned."""
    row = connection.execute(select(variant).where(variant.c.variant_id == variant_id, variant.c.assistant == assistant)).first()
    if row is None:
        raise UnknownObjectError("variant", f"{variant_id} of {assistant}", hint="`affinage adapter list` shows the variants.")
    if row.tainted:
        raise RefusedError(
            f"Variant `{variant_id}` may not serve.",
            reasons=["It learned from data that has to be forgotten."],
            hint="Build the dataset again and train anew.",
        )
    if row.retired_at is not None:
        raise RefusedError(
            f"Variant `{variant_id}` may not serve.", reasons=["It was retired."], hint="Promote another one, or train anew."
        )
    if row.adapter is not None and row.countersignature is None:
        raise RefusedError(
            f"Variant `{variant_id}` may not serve.",
            reasons=["Its adapter is not countersigned: it has not passed the gate."],
            hint=f"Run `affinage adapter evaluate {variant_id}`.",
        )


def _swap(connection: Connection, to: Pointer, *, now: datetime) -> None:
    values = {"variant_id": to.variant_id, "previous_variant_id": to.previous_variant_id, "version": to.version, "moved_at": now}
    if to.version == 1:
        try:
            connection.execute(insert(serving_pointer).values(assistant=to.assistant, **values))
        except IntegrityError as error:
            raise _moved_meanwhile(to.assistant, 0, 1) from error
        return
    same = (serving_pointer.c.assistant == to.assistant) & (serving_pointer.c.version == to.version - 1)
    if connection.execute(update(serving_pointer).where(same).values(**values)).rowcount != 1:
        raise _moved_meanwhile(to.assistant, to.version - 1, to.version)


def _last_move(connection: Connection, pointer: Pointer) -> Move:
    same = (alias_move.c.assistant == pointer.assistant) & (alias_move.c.alias == CHAMPION) & (alias_move.c.version == pointer.version)
    move_id = connection.execute(select(alias_move.c.move_id).where(same)).scalar_one()
    return Move(move_id, pointer.assistant, pointer.variant_id, pointer.previous_variant_id, pointer.version)


def _before(connection: Connection, assistant: str, variant_id: str) -> str | None:
    """What served before `variant_id` did: the moves are replayed, a rollback takes the last one off."""
    query = select(alias_move.c.variant_id, alias_move.c.kind).where(alias_move.c.assistant == assistant, alias_move.c.alias == CHAMPION)
    stack: list[str] = []
    for row in connection.execute(query.where(alias_move.c.version.is_not(None)).order_by(alias_move.c.version)):
        if row.kind == "rollback":
            stack.pop()
        else:
            stack.append(row.variant_id)
    stack.pop()  # the one being rolled back
    return stack[-2] if len(stack) > 1 and stack[-1] == variant_id else None


def _record(
    connection: Connection,
    *,
    move_id: str,
    assistant: str,
    alias: str,
    variant_id: str | None,
    kind: str,
    version: int | None,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    values = {"move_id": move_id, "assistant": assistant, "alias": alias, "variant_id": variant_id, "kind": kind, "version": version}
    connection.execute(insert(alias_move).values(**values, actor=actor, reason=reason, created_at=now))


def _moved_meanwhile(assistant: str, expected: int, found: int) -> ConflictError:
    return ConflictError(
        f"The champion of `{assistant}` moved meanwhile: version {expected} was expected, {found} is there.",
        hint=f"Look at it: `affinage adapter list --assistant {assistant}`; then decide again.",
    )
