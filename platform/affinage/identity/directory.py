"""Organisations, groups and roles in the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from affinage.database.inserting import insert_new
from affinage.database.tables.identity import group_member, organisation, role_binding
from affinage.identity.rights import Reader, reader

ROLES = ("operator", "owner", "reviewer", "scientist")


def ensure_organisation(connection: Connection, *, name: str, now: datetime) -> None:
    """Create the organisation unless it exists."""
    insert_new(connection, organisation, name=name, created_at=now)


def stored_groups(connection: Connection, *, user: str) -> list[str]:
    """Names of the groups that hold `user`, sorted."""
    rows = connection.execute(select(group_member.c.group_name).where(group_member.c.user_name == user))
    return sorted(rows.scalars())


def reader_of(connection: Connection, *, user: str, groups: Iterable[str] = ()) -> Reader:
    """The reader named `user`, in the stored groups and those given."""
    return reader(user, {*stored_groups(connection, user=user), *groups})


def roles_of(connection: Connection, *, who: Reader, organisation_name: str) -> frozenset[str]:
    """Roles that `who` has in the organisation, through their groups."""
    groups = [p.removeprefix("group:") for p in who.principals if p.startswith("group:")]
    rows = connection.execute(
        select(role_binding.c.role).where(role_binding.c.organisation == organisation_name, role_binding.c.group_name.in_(groups))
    )
    return frozenset(rows.scalars())


def add_member(connection: Connection, *, group: str, user: str) -> bool:
    """Put `user` into `group`; False when they were in it."""
    return insert_new(connection, group_member, group_name=group, user_name=user)


def remove_member(connection: Connection, *, group: str, user: str) -> bool:
    """Take `user` out of `group`; False when they were not in it."""
    key = (group_member.c.group_name == group) & (group_member.c.user_name == user)
    return bool(connection.execute(delete(group_member).where(key)).rowcount)


def list_members(connection: Connection) -> Sequence[tuple[str, str]]:
    """All (group, user) pairs, sorted."""
    rows = connection.execute(select(group_member.c.group_name, group_member.c.user_name).order_by(*group_member.c))
    return [(row.group_name, row.user_name) for row in rows]
