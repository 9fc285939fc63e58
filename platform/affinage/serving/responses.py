"""Bodies in and out: JSON, its size, and errors as OpenAI's clients expect them.

Called by the gateway's routes and by the services of the two engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

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

MAX_BODY_BYTES = 1 << 20
# Some 200 pages of text: no question and no correction is longer.
T = TypeVar("T")


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


async def read_body(request: Request, *, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request's body.

    Raises
    ------
    UsageError
        If it is larger than `limit_bytes` (status 413).
    """
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > limit_bytes:
            raise too_large(limit_bytes)
    return bytes(received)


def too_large(limit_bytes: int) -> UsageError:
    """The error for a body beyond its limit."""
    return UsageError("The request body is too large.", hint=f"At most {limit_bytes} bytes.", status=413, code="too_large")


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
