"""What the gateway's routes share, and the frame around each of them: who calls, and what goes wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.errors import AffinageError, NotAllowedError, UsageError
from affinage.serving.answering import Answering
from affinage.serving.callers import Caller, Callers
from affinage.serving.pool import Pool
from affinage.serving.responses import error_response
from affinage.serving.sessions import Sessions
from affinage.serving.writer import GroupWriter
from affinage.telemetry import Metrics

log = logging.getLogger("affinage.serving")


@dataclass
class State:
    """What the process is doing now. Draining: finish what runs, take nothing new."""

    ready: bool = False
    draining: bool = False
    inflight: int = 0


@dataclass
class Parts:
    """Clients and state of one gateway process.

    `quick` runs reads of milliseconds, `slow` runs questions: a burst of questions must not block sign-in or health.
    """

    database: Database
    blobs: BlobStore
    answering: Answering
    writer: GroupWriter
    sessions: Sessions
    metrics: Metrics
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    quick: Pool = field(default_factory=lambda: Pool("quick", threads=4, waiting=256, timeout_seconds=10))
    slow: Pool = field(default_factory=lambda: Pool("slow", threads=8, waiting=64, timeout_seconds=120))
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        self.callers = Callers(database=self.database, sessions=self.sessions, run=self.quick.run, monotonic=time.monotonic)


Handler = Callable[[Request, Caller], Awaitable[Response]]


def route(parts: Parts, path: str, handler: Handler, *, methods: list[str], scoped: bool = False) -> Route:
    """A route for authenticated callers; whatever goes wrong becomes an OpenAI-shaped error.

    A key that is good for one thing only reaches a route that says it looks at that: `scoped`.
    """

    async def endpoint(request: Request) -> Response:
        try:
            caller = await parts.callers.caller(request)
            if caller.scope is not None and not scoped:
                raise NotAllowedError(f"This key is good for `{caller.scope}` only.", hint="Use a key that was made without a scope.")
            return await handler(request, caller)
        except AffinageError as error:
            return error_response(error)
        except Exception:
            log.exception("A request failed.", extra={"path": request.url.path})
            return error_response(AffinageError("The gateway failed.", hint="Its log names the cause."))

    return Route(path, endpoint, methods=methods)


def storable(text: str, *, param: str) -> str:
    """`text`, refused when a database cannot hold it."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("The text holds a character that cannot be stored.", hint="Remove NUL and unpaired surrogates.", param=param)
    return text
