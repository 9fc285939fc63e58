"""Variants as stored: what each one is, where its adapter came from, whether it may be loaded.

Moves of the champion are in `moves.py`; this module knows no transaction, each function takes a connection.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, select, update

from affinage.answers.variant import Variant
from affinage.database.inserting import insert_new
from affinage.database.tables.registry import serving_pointer
from affinage.database.tables.registry import variant as table
from affinage.errors import UnknownObjectError, UsageError
from affinage.registry.moves import move_champion, rollback_champion

AdapterTask = Literal["generator", "embedder"]
__all__ = [
    "AdapterTask",
    "StoredVariant",
    "champion_of",
    "get_variant",
    "list_variants",
    "move_champion",
    "resolve_variant",
    "rollback_champion",
    "save_variant",
    "stored_variant",
    "variant_of_version",
]


@dataclass(frozen=True)
class StoredVariant:
    """A variant and what the registry knows of it.

    `adapter_task` says which engine the adapter belongs to: the generator, or the embedder (then the variant's
    generations hold its vectors once it is released).
    """

    variant: Variant
    organisation: str
    adapter_task: AdapterTask | None
    dataset_id: str | None
    run_id: str | None
    model_version: str | None
    gate_id: str | None
    countersigned_at: datetime | None
    tainted: bool
    retired_at: datetime | None
    created_at: datetime

    @property
    def variant_id(self) -> str:
        """Id of the variant."""
        return self.variant.variant_id


def save_variant(
    connection: Connection,
    variant: Variant,
    *,
    organisation: str,
    now: datetime,
    adapter_task: AdapterTask | None = None,
    dataset_id: str | None = None,
    run_id: str | None = None,
    model_version: str | None = None,
) -> bool:
    """Store `variant`; the same again only fills in what was not known before.

    Returns
    -------
    bool
        Whether it is new.
    """
    given = {"adapter_task": adapter_task, "dataset_id": dataset_id, "run_id": run_id, "model_version": model_version}
    values: dict[str, Any] = {
        "variant_id": variant.variant_id,
        "organisation": organisation,
        "assistant": variant.assistant,
        "spec": asdict(variant),
        "adapter": variant.adapter,
        "adapter_digest": variant.adapter_digest,
        "tainted": False,
        "created_at": now,
        **given,
    }
    if insert_new(connection, table, **values):
        return True
    row = connection.execute(select(table).where(table.c.variant_id == variant.variant_id)).mappings().one()
    late = {key: value for key, value in given.items() if value is not None and row[key] is None}
    if late:
        connection.execute(update(table).where(table.c.variant_id == variant.variant_id).values(**late))
    return False


def get_variant(connection: Connection, variant_id: str) -> Variant:
    """The variant with this id; raises `UnknownObjectError` when there is none."""
    return stored_variant(connection, variant_id).variant


def stored_variant(connection: Connection, variant_id: str) -> StoredVariant:
    """The variant with this id and what the registry knows of it."""
    row = connection.execute(select(table).where(table.c.variant_id == variant_id)).first()
    if row is None:
        raise UnknownObjectError("variant", variant_id, hint="`affinage adapter list` shows the variants.")
    return _stored(row)


def resolve_variant(connection: Connection, name: str) -> StoredVariant:
    """The variant that `name` means: its id, the beginning of it, or the name of its adapter.

    Where several variants have the adapter, the newest is meant.

    Raises
    ------
    UnknownObjectError
        If nothing fits.
    UsageError
        If the beginning fits several.
    """
    if "@" in name:
        rows = connection.execute(
            select(table).where(table.c.adapter == name).order_by(table.c.created_at.desc(), table.c.variant_id)
        ).all()
        rows = rows[:1]
    else:
        rows = connection.execute(select(table).where(table.c.variant_id.startswith(name, autoescape=True))).all() if name else []
    if len(rows) > 1:
        raise UsageError(f"`{name}` fits {len(rows)} variants.", hint="Give more digits of the id.")
    if not rows:
        raise UnknownObjectError("variant", name, hint="`affinage adapter list` shows the variants.")
    return _stored(rows[0])


def list_variants(connection: Connection, assistant: str | None = None) -> list[StoredVariant]:
    """All variants (of `assistant`), the oldest first."""
    query = select(table).order_by(table.c.created_at, table.c.variant_id)
    if assistant is not None:
        query = query.where(table.c.assistant == assistant)
    return [_stored(row) for row in connection.execute(query)]


def champion_of(connection: Connection, assistant: str) -> Variant | None:
    """The variant that serves `assistant`, or None before the first move."""
    query = select(table.c.spec).join(serving_pointer, serving_pointer.c.variant_id == table.c.variant_id)
    row = connection.execute(query.where(serving_pointer.c.assistant == assistant)).first()
    return None if row is None else Variant(**row.spec)


def variant_of_version(connection: Connection, assistant: str, model_version: str) -> StoredVariant | None:
    """The variant that is `model_version` of the assistant's model, or None when we have not seen it."""
    query = select(table).where(table.c.assistant == assistant, table.c.model_version == model_version)
    row = connection.execute(query.order_by(table.c.created_at)).first()
    return None if row is None else _stored(row)


def _stored(row: Any) -> StoredVariant:
    return StoredVariant(
        variant=Variant(**row.spec),
        organisation=row.organisation,
        adapter_task=row.adapter_task,
        dataset_id=row.dataset_id,
        run_id=row.run_id,
        model_version=row.model_version,
        gate_id=row.gate_id,
        countersigned_at=row.countersigned_at,
        tainted=row.tainted,
        retired_at=row.retired_at,
        created_at=row.created_at,
    )
