"""The gateway: the routes put together, with the frame that every response passes through.

The event loop never touches a database: reads go through bounded thread pools, writes through one writer thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affinage.errors import DependencyError
from affinage.serving.chat import chat_routes
from affinage.serving.documents import document_routes
from affinage.serving.feedback import feedback_routes
from affinage.serving.health import health_routes
from affinage.serving.openapi import openapi_route
from affinage.serving.parts import Parts
from affinage.serving.responses import json_response
from affinage.serving.search import search_routes
from affinage.serving.sources import source_routes

WARM_AGAIN_SECONDS = 2.0
log = logging.getLogger("affinage.serving")


def create_gateway(parts: Parts, *, pages: Sequence[BaseRoute] = (), warm: Callable[[], None] | None = None) -> Starlette:
    """The ASGI application.

    Parameters
    ----------
    pages
        Further routes, such as the console's.
    warm
        Loads models before the first request; `/health/ready` waits for it. If it fails the process stays alive and
        not ready, and says why in its log; it is tried again when what it needs may only start later.
    """
    routes = [
        *chat_routes(parts),
        *search_routes(parts),
        *feedback_routes(parts),
        *document_routes(parts),
        *source_routes(parts),
        *health_routes(parts),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # A daemon: a process that is told to stop while it loads a model does not wait for it.
        threading.Thread(target=_warm, args=(parts, warm), name="warm", daemon=True).start()
        yield
        parts.state.ready = False
        parts.quick.close()
        parts.slow.close()
        parts.writer.close()

    app = Starlette(routes=[*routes, openapi_route(routes), *pages], lifespan=lifespan, exception_handlers={HTTPException: _http_error})
    app.add_middleware(_Headers)
    app.state.parts = parts
    return app


def _warm(parts: Parts, warm: Callable[[], None] | None) -> None:
    while not parts.state.ready:
        try:
            if warm is not None:
                warm()
        except Exception as error:
            if not (isinstance(error, DependencyError) and error.retryable):
                log.exception("The gateway cannot get ready.")
                return
            log.warning("The gateway is not ready yet.", extra={"reason": str(error)})
            time.sleep(WARM_AGAIN_SECONDS)
        else:
            parts.state.ready = True


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "There is no such route.", 405: "This route does not take that method."}.get(status, "The request failed.")
    body = {"error": {"message": message, "type": "invalid_request_error", "code": "not_found", "param": None}}
    return json_response(body, status=status)


class _Headers:
    """Adds to each response what keeps a browser from guessing, framing and telling others."""

    _ADDED = (
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self._ADDED if pair[0] not in given)]
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
