"""Bring the database to what a YAML file declares.

Idempotent; one transaction. Rights take effect at once: the access label of every known document of a changed source is
computed again in the same transaction, before any sync.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from affinage.database.tables import declarations as tables
from affinage.database.tables.identity import role_binding
from affinage.database.tables.index import document
from affinage.declarations.model import AssistantSpec, Declarations, SourceSpec
from affinage.errors import ConfigurationError
from affinage.identity.access import allowed
from affinage.identity.directory import ensure_organisation
from affinage.identity.rights import intersection


@dataclass
class ApplyReport:
    """Names as `kind/name`, by what happened to them."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, list[str]]:
        """The keys of `affinage apply --json`."""
        return {"created": self.created, "changed": self.changed, "unchanged": self.unchanged, "removed": self.removed}


def apply_declarations(connection: Connection, declared: Declarations, *, now: datetime, prune: bool = False) -> ApplyReport:
    """Write the difference between `declared` and what is stored.

    Parameters
    ----------
    prune
        Also remove what is stored and no longer declared. A source that still has documents stays in the ledger but
        is no longer listed or searched.

    Raises
    ------
    ConfigurationError
        If an assistant names a source that is neither declared nor stored.
    """
    report = ApplyReport()
    _check_references(connection, declared, prune=prune)
    named = {s.organisation for s in declared.sources} | {a.organisation for a in declared.assistants}
    named |= {r.organisation for r in declared.roles}
    for name in sorted(named):
        ensure_organisation(connection, name=name, now=now)
    for source in declared.sources:
        before = connection.execute(select(tables.source.c.spec).where(tables.source.c.name == source.name)).scalar()
        if _write(connection, tables.source, source, report, kind="source", now=now):
            _refresh_rights(connection, source, before=(before or {}).get("access"), now=now)
    for assistant in declared.assistants:
        _write(connection, tables.assistant, assistant, report, kind="assistant", now=now)
    _write_roles(connection, declared, report, prune=prune)
    if prune:
        _remove(connection, tables.assistant, {a.name for a in declared.assistants}, report, kind="assistant", now=now)
        _remove(connection, tables.source, {s.name for s in declared.sources}, report, kind="source", now=now)
    return report


def _check_references(connection: Connection, declared: Declarations, *, prune: bool) -> None:
    known = {source.name for source in declared.sources}
    if not prune:
        known |= set(connection.execute(select(tables.source.c.name).where(tables.source.c.removed_at.is_(None))).scalars())
    for assistant in declared.assistants:
        missing = sorted(set(assistant.sources) - known)
        if missing:
            raise ConfigurationError(
                f"Assistant `{assistant.name}` names the source `{missing[0]}`, which is not declared.",
                hint="Add it under `sources:` or correct the name.",
            )


def _write(
    connection: Connection, table: Table, spec: SourceSpec | AssistantSpec, report: ApplyReport, *, kind: str, now: datetime
) -> bool:
    row = connection.execute(select(table).where(table.c.name == spec.name)).mappings().first()
    wanted: dict[str, Any] = spec.model_dump(mode="json")
    label = f"{kind}/{spec.name}"
    removed = row is not None and row.get("removed_at") is not None
    if row is not None and row["spec"] == wanted and not removed:
        report.unchanged.append(label)
        return False
    values: dict[str, Any] = {"organisation": spec.organisation, "spec": wanted, "applied_at": now}
    if row is None:
        connection.execute(insert(table).values(name=spec.name, **values))
    else:
        connection.execute(update(table).where(table.c.name == spec.name).values(**values, **({"removed_at": None} if removed else {})))
    (report.created if row is None or removed else report.changed).append(label)
    return True


def _refresh_rights(connection: Connection, source: SourceSpec, *, before: object, now: datetime) -> None:
    if isinstance(source.access, str):
        # The place itself says it, and only a sync reads that; until then the rules that were taken away open nothing.
        if source.access != before:
            connection.execute(update(document).where(document.c.source == source.name).values(allow=[], updated_at=now))
        return
    rules = source.rules()
    rows = connection.execute(select(document.c.doc_key, document.c.path, document.c.allow).where(document.c.source == source.name))
    for row in rows.all():
        label = list(allowed(rules, unicodedata.normalize("NFC", row.path)))
        if source.carries_rights:
            # What the place says of the document is not stored: a rule narrows at once, and widens with the next sync.
            label = sorted(intersection([label, row.allow]))
        if label != row.allow:
            connection.execute(update(document).where(document.c.doc_key == row.doc_key).values(allow=label, updated_at=now))


def _write_roles(connection: Connection, declared: Declarations, report: ApplyReport, *, prune: bool) -> None:
    wanted = {(r.organisation, r.role, r.group) for r in declared.roles}
    stored = {tuple(row) for row in connection.execute(select(role_binding))}
    for organisation, role, group in sorted(wanted - stored):
        connection.execute(insert(role_binding).values(organisation=organisation, role=role, group_name=group))
        report.created.append(f"role/{organisation}/{role}/{group}")
    report.unchanged += [f"role/{'/'.join(r)}" for r in sorted(wanted & stored)]
    for organisation, role, group in sorted(stored - wanted) if prune else ():
        key = (role_binding.c.organisation == organisation) & (role_binding.c.role == role) & (role_binding.c.group_name == group)
        connection.execute(delete(role_binding).where(key))
        report.removed.append(f"role/{organisation}/{role}/{group}")


def _remove(connection: Connection, table: Table, keep: set[str], report: ApplyReport, *, kind: str, now: datetime) -> None:
    query = select(table.c.name)
    if kind == "source":
        query = query.where(table.c.removed_at.is_(None))
    for name in sorted(set(connection.execute(query).scalars()) - keep):
        referred = kind == "source" and connection.execute(select(document.c.doc_key).where(document.c.source == name)).first()
        if referred:
            # Nobody may read what is no longer declared; the row stays because documents refer to it.
            connection.execute(update(document).where(document.c.source == name).values(allow=[], updated_at=now))
            connection.execute(update(table).where(table.c.name == name).values(removed_at=now))
        else:
            connection.execute(delete(table).where(table.c.name == name))
        report.removed.append(f"{kind}/{name}")
