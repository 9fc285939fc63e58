"""`affinage key` and `affinage group`."""

from __future__ import annotations

from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.declarations.repository import get_source
from affinage.errors import UsageError
from affinage.identity.directory import add_member, list_members, remove_member
from affinage.identity.keys import create_key, list_keys, revoke_key, source_scope

keys = typer.Typer(no_args_is_help=True, help="API keys.\n\nExample: affinage key create --user alice")
groups = typer.Typer(no_args_is_help=True, help="Members of groups.\n\nExample: affinage group add hr dana")


@keys.command("create")
def create(
    user: Annotated[str, typer.Option("--user", help="Whose key it is.")],
    scope: Annotated[str | None, typer.Option("--scope", help="`source:NAME`: the key may only say that this source has changed.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Make a key; it is shown once and stored hashed.

    Example: affinage key create --user bucket-events --scope source:handbook
    """
    with installation() as app, app.database.write() as connection:
        if scope is not None and scope != source_scope(get_source(connection, scope.partition(":")[2]).name):
            raise UsageError(f"There is no scope `{scope}`.", hint="Write `source:NAME`.")
        key_id, key = create_key(connection, user=user, now=app.now(), new_id=app.new_id, scope=scope)
    emit({"key_id": key_id, "key": key, "user": user, "scope": scope}, as_json=json_output, lines=[key, f"id {key_id}; shown this once."])


@keys.command("list")
def list_(json_output: JsonFlag = False) -> None:
    """Show all keys, without their secrets.

    Example: affinage key list
    """
    with installation() as app, app.database.read() as connection:
        found = list_keys(connection)
    rows = [{"key_id": k.key_id, "user": k.user, "scope": k.scope, "created_at": k.created_at, "revoked_at": k.revoked_at} for k in found]
    emit(
        {"keys": rows},
        as_json=json_output,
        lines=[f"{k.key_id}  {k.user}{f'  {k.scope}' if k.scope else ''}{'  revoked' if k.revoked_at else ''}" for k in found],
    )


@keys.command("revoke")
def revoke(key_id: str, json_output: JsonFlag = False) -> None:
    """Make a key invalid.

    Example: affinage key revoke 3f0c…
    """
    with installation() as app, app.database.write() as connection:
        revoke_key(connection, key_id=key_id, now=app.now())
    emit({"key_id": key_id, "revoked": True}, as_json=json_output, lines=[f"Key {key_id} is revoked."])


@groups.command("add")
def add(group: str, user: str, json_output: JsonFlag = False) -> None:
    """Put USER into GROUP; takes effect at the next query.

    Example: affinage group add hr dana
    """
    with installation() as app, app.database.write() as connection:
        changed = add_member(connection, group=group, user=user)
    emit({"group": group, "user": user, "changed": changed}, as_json=json_output, lines=[f"{user} is in {group}."])


@groups.command("remove")
def remove(group: str, user: str, json_output: JsonFlag = False) -> None:
    """Take USER out of GROUP; takes effect at the next query.

    Example: affinage group remove hr dana
    """
    with installation() as app, app.database.write() as connection:
        changed = remove_member(connection, group=group, user=user)
    emit({"group": group, "user": user, "changed": changed}, as_json=json_output, lines=[f"{user} is not in {group}."])


@groups.command("list")
def list_groups(json_output: JsonFlag = False) -> None:
    """Show all stored memberships.

    Example: affinage group list
    """
    with installation() as app, app.database.read() as connection:
        members = list_members(connection)
    rows = [{"group": group, "user": user} for group, user in members]
    emit({"members": rows}, as_json=json_output, lines=[f"{group}  {user}" for group, user in members])
