"""`POST /v1/sources/{name}/changed`: a hint that schedules a sync.

A bucket's notifications and any script may send it. Nothing is listed here and nothing of the body is believed: what changed is
for the sync to find out.
"""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.declarations.repository import get_source
from affinage.errors import NotAllowedError, UnknownObjectError
from affinage.identity.directory import reader_of, roles_of
from affinage.identity.keys import source_scope
from affinage.index.hints import record_hint
from affinage.serving.callers import Caller
from affinage.serving.parts import Parts, route
from affinage.serving.responses import json_response, read_body

ROLES = frozenset({"operator", "owner"})
"""Of the source's organisation: they may sync it anyway."""


def source_routes(parts: Parts) -> list[Route]:
    """The route for hints."""

    async def changed(request: Request, caller: Caller) -> Response:
        name = request.path_params["name"]
        await read_body(request)

        def store(connection: Connection) -> bool:
            _demand(connection, name, caller)
            return record_hint(connection, name, now=parts.now())

        scheduled = await parts.quick.run(lambda: parts.writer.commit(store))
        return json_response({"source": name, "scheduled": scheduled}, status=202)

    return [route(parts, "/v1/sources/{name}/changed", changed, methods=["POST"], scoped=True)]


def _demand(connection: Connection, name: str, caller: Caller) -> None:
    """Let pass a key made for this source, and who has a role in its organisation; others do not learn whether it exists."""
    refusal = NotAllowedError(
        f"You may not say that source `{name}` has changed, or there is none.",
        hint=f"Use a key made for it: `affinage key create --user NAME --scope {source_scope('NAME')}`.",
    )
    try:
        spec = get_source(connection, name)
    except UnknownObjectError:
        if caller.scope == source_scope(name):
            raise
        raise refusal from None
    if caller.scope is not None:
        if caller.scope != source_scope(name):
            raise refusal
        return
    who = reader_of(connection, user=caller.user, groups=caller.groups)
    if not roles_of(connection, who=who, organisation_name=spec.organisation) & ROLES:
        raise refusal
