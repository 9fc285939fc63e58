"""What the services of the two engines share: getting ready, the frame round each route, and their metrics.

An engine is loaded in the background, so that probes are answered meanwhile. What cannot be loaded ends the process, and so
does an engine that is gone: a service that lives and can do nothing would have its callers wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from affinage.errors import AffinageError, DependencyError, UnknownObjectError, UsageError
from affinage.serving.responses import error_response, read_body
from affinage.telemetry import EngineMetrics

FAREWELL_SECONDS = 1.0
"""For the answers to those who waited for an engine that is gone."""
log = logging.getLogger("affinage.serving")


class Body(BaseModel):
    """A request's body: what is not known is refused, for ignoring it would answer another question."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


B = TypeVar("B", bound=Body)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
Handler = Callable[[Request], Awaitable[Response]]


class Inference:
    """One engine behind HTTP.

    Parameters
    ----------
    load
        Reads the weights and lets them answer once; the service is ready when it returns.
    failed
        Called in a thread when `load` raised, or the engine is gone; ends the process.
    """

    def __init__(self, *, load: Callable[[], None], failed: Callable[[], None], metrics: EngineMetrics) -> None:
        self.metrics = metrics
        self.ready = False
        self._load = load
        self._failed = failed

    def start(self) -> None:
        """Begin to load, in the background."""
        # A daemon: a process that is told to stop while it loads does not wait for it.
        threading.Thread(target=self._get_ready, name="load", daemon=True).start()

    def engine_ended(self) -> None:
        """Say that nothing can be answered any more, and end the process."""
        self.ready = False
        self.metrics.ready.set(0)
        time.sleep(FAREWELL_SECONDS)
        self._failed()

    def app(self, routes: list[Route]) -> Starlette:
        """The ASGI application: `routes`, the metrics, and an OpenAI-shaped 404 below `/v1`."""
        return Starlette(routes=[*routes, Route("/metrics", self._metrics), self.route("/v1/{path:path}", _no_route, *_METHODS)])

    def route(self, path: str, handler: Handler, *methods: str) -> Route:
        """A route that is answered when the engine is ready; whatever goes wrong becomes an OpenAI-shaped error."""

        async def endpoint(request: Request) -> Response:
            ended = self._begun(path)
            try:
                response = await self._answer(request, handler)
            except BaseException:
                ended(HTTPStatus.INTERNAL_SERVER_ERROR)
                raise
            if isinstance(response, PieceStream):
                response.on_end(lambda: ended(response.status_code))
            else:
                ended(response.status_code)
            return response

        return Route(path, endpoint, methods=methods)

    async def _answer(self, request: Request, handler: Handler) -> Response:
        try:
            if not self.ready:
                raise DependencyError("engine", "The engine is not ready yet.", hint="Try again in a moment.")
            return await handler(request)
        except AffinageError as error:
            return error_response(error)
        except Exception:
            # Without the text of the request: only the path is logged.
            log.exception("A request failed.", extra={"path": request.url.path})
            return error_response(AffinageError("The service failed.", hint="Its log names the cause."))

    def _begun(self, path: str) -> Callable[[int], None]:
        started = time.monotonic()
        self.metrics.inflight.inc()

        def ended(status: int) -> None:
            self.metrics.inflight.dec()
            self.metrics.requests.labels(route=path, status=str(int(status))).inc()
            self.metrics.request_duration.labels(route=path).observe(time.monotonic() - started)

        return ended

    def _get_ready(self) -> None:
        started = time.monotonic()
        try:
            self._load()
        except BaseException:
            log.exception("The engine cannot be loaded; the service ends.")
            self._failed()
            return
        self.ready = True
        self.metrics.ready.set(1)
        log.info("The engine is ready.", extra={"seconds": round(time.monotonic() - started, 1)})

    async def _metrics(self, _request: Request) -> Response:
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)


class PieceStream(StreamingResponse):
    """An event stream that tells when it is over, also when its reader left before it began."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(pieces, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._ends: list[Callable[[], None]] = []

    def on_end(self, act: Callable[[], None]) -> None:
        """Call `act` once the last byte is sent, or the reader has left."""
        self._ends.append(act)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for act in self._ends:
                act()


async def parsed(request: Request, kind: type[B], *, limit_bytes: int) -> B:
    """The request's body as `kind`.

    Raises
    ------
    UsageError
        If it is too large (413), no JSON, or a key is unknown, missing or wrong (400).
    """
    body = await read_body(request, limit_bytes=limit_bytes)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        raise UsageError(f"{first['msg']}{f' at `{param}`' if param else ''}.", hint="The README lists every key.", param=param) from error


def unknown_model(name: str) -> UnknownObjectError:
    """The error for a model that is not here: never another one in its place."""
    error = UnknownObjectError("model", name, hint="`GET /v1/models` lists those that are loaded.")
    error.fields.update(code="model_not_found", param="model")
    return error


async def _no_route(request: Request) -> Response:
    raise UnknownObjectError("route", f"{request.method} {request.url.path}", hint="The README lists the routes.")
