"""What the gateway's routes share, and the frame around each of them: who calls, what goes wrong, what is sent."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.errors import (
    AffinageError,
    ConflictError,
    DependencyError,
    DocumentError,
    NotAllowedError,
    NotAuthenticatedError,
    RefusedError,
    UnknownObjectError,
    UsageError,
)
from affinage.serving.answering import Answering
from affinage.serving.callers import Caller, Callers
from affinage.serving.pool import Pool
from affinage.serving.sessions import Sessions
from affinage.serving.writer import GroupWriter
from affinage.telemetry import Metrics

MAX_BODY_BYTES = 1 << 20
# Some 200 pages of text: no question and no correction is longer.
T = TypeVar("T")
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


def route(parts: Parts, path: str, handler: Handler, *, methods: list[str]) -> Route:
    """A route for authenticated callers; whatever goes wrong becomes an OpenAI-shaped error."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request, await parts.callers.caller(request))
        except AffinageError as error:
            return error_response(error)
        except Exception:
            log.exception("A request failed.", extra={"path": request.url.path})
            return error_response(AffinageError("The gateway failed.", hint="Its log names the cause."))

    return Route(path, endpoint, methods=methods)


def json_response(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON that no cache keeps."""
    body = msgspec.json.encode(content)
    return Response(body, status_code=status, media_type="application/json", headers={"cache-control": "no-store", **(headers or {})})


def error_body(error: AffinageError) -> dict[str, Any]:
    """The error as OpenAI's clients expect it."""
    _, kind, code = _classified(error)
    message = f"{error.message} {error.hint}".strip()
    return {"error": {"message": message, "type": kind, "code": error.fields.get("code", code), "param": error.fields.get("param")}}


def error_response(error: AffinageError) -> Response:
    """The error with its status."""
    status, _, _ = _classified(error)
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 503:
        headers["retry-after"] = "1"
    return json_response(error_body(error), status=status, headers=headers)


# Class of error: status, `type` and `code` of OpenAI's error object. The first that fits.
_CLASSES: tuple[tuple[type[AffinageError], int, str, str], ...] = (
    (UnknownObjectError, 404, "invalid_request_error", "not_found"),
    (UsageError, 400, "invalid_request_error", "invalid_request"),
    (NotAuthenticatedError, 401, "invalid_request_error", "invalid_api_key"),
    (NotAllowedError, 403, "permission_error", "not_allowed"),
    (RefusedError, 403, "permission_error", "refused"),
    (ConflictError, 409, "invalid_request_error", "conflict"),
    (DocumentError, 422, "invalid_request_error", "document"),
    (DependencyError, 503, "service_unavailable_error", "unavailable"),
    (AffinageError, 500, "server_error", "internal_error"),
)


def _classified(error: AffinageError) -> tuple[int, str, str]:
    status, kind, code = next(entry[1:] for entry in _CLASSES if isinstance(error, entry[0]))
    given = error.fields.get("status")
    if error.fields.get("kind") == "assistant":
        code = "model_not_found"
    return given if isinstance(given, int) else status, kind, code


async def read_body(request: Request) -> bytes:
    """The request's body.

    Raises
    ------
    UsageError
        If it is larger than a mebibyte (status 413).
    """
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > MAX_BODY_BYTES:
            raise UsageError("The request body is too large.", hint=f"At most {MAX_BODY_BYTES} bytes.", status=413, code="too_large")
    return bytes(received)


def decode(body: bytes, kind: type[T]) -> T:
    """`body` as JSON of the given kind.

    Raises
    ------
    UsageError
        If it is no JSON, or a key is unknown, missing or wrong.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        param = where.strip("`").removeprefix("$.") or None
        raise UsageError(f"{message}{f' at `{param}`' if param else ''}.", hint="/openapi.json lists every key.", param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UsageError("The request body is not JSON.", hint="Send one JSON object in UTF-8.") from error


def storable(text: str, *, param: str) -> str:
    """`text`, refused when a database cannot hold it."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("The text holds a character that cannot be stored.", hint="Remove NUL and unpaired surrogates.", param=param)
    return text
