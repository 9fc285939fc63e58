"""Liveness and readiness. They need no token and tell nothing but themselves."""

from __future__ import annotations

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.errors import DependencyError
from affinage.serving.parts import Parts
from affinage.serving.responses import json_response


def health_routes(parts: Parts) -> list[Route]:
    """The two probes."""

    async def live(_request: Request) -> Response:
        # True while draining: a process that finishes its streams must not be killed for it.
        return json_response({"status": "live"})

    async def ready(_request: Request) -> Response:
        if parts.state.draining or not parts.state.ready:
            return json_response({"status": "draining" if parts.state.draining else "starting"}, status=503)
        try:
            await parts.quick.run(_probe)
        except DependencyError:
            return json_response({"status": "unavailable"}, status=503)
        return json_response({"status": "ready"})

    def _probe() -> None:
        with parts.database.read() as connection:
            connection.execute(text("SELECT 1"))

    return [Route("/health/live", live), Route("/health/ready", ready)]
