"""`POST /v1/feedback`: acknowledged when it is on disk, stored once whatever is repeated."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.errors import UsageError
from affinage.feedback.submission import parse_submission
from affinage.feedback.submit import Accepted, submit
from affinage.serving.callers import Caller
from affinage.serving.parts import Parts, route
from affinage.serving.responses import json_response, read_body


def feedback_routes(parts: Parts) -> list[Route]:
    """The feedback route."""

    async def feedback(request: Request, caller: Caller) -> Response:
        submission = parse_submission(_decoded(await read_body(request)))
        key = request.headers.get("idempotency-key")

        def store(connection: Connection) -> Accepted:
            return submit(connection, submission, by=caller.user, now=parts.now(), new_id=parts.new_id, idempotency_key=key)

        accepted = await parts.quick.run(lambda: parts.writer.commit(store))
        if accepted.created:
            parts.metrics.feedback.labels(accepted.assistant, accepted.arm, accepted.value).inc()
        return json_response(accepted.body, status=201 if accepted.created else 200)

    return [route(parts, "/v1/feedback", feedback, methods=["POST"])]


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UsageError("The request body is not JSON.", hint="Send one JSON object in UTF-8.") from error
