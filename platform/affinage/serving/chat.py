"""`POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients expect them.

An answer is checked and recorded before its first byte leaves: until then an error is an HTTP status. It is then sent
whole, or sentence by sentence. When something breaks after the first byte, an error event ends the stream and the end
marker is left out: never a silent end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from affinage.declarations.model import AssistantSpec
from affinage.engines.protocols import Message
from affinage.errors import AffinageError, DependencyError, UnknownObjectError
from affinage.serving.answering import Answered, AskRequest
from affinage.serving.callers import Caller
from affinage.serving.parts import Parts, route, storable
from affinage.serving.responses import decode, error_body, json_response, read_body

ANSWER_ID_HEADER = "X-Affinage-Answer-Id"
log = logging.getLogger("affinage.serving")
_ShortText = Annotated[str, Meta(max_length=512)]


class TextPart(Struct, forbid_unknown_fields=True):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, forbid_unknown_fields=True):
    """One turn. What a caller writes as `system` or `developer` is recorded and never takes the place of the assistant's prompt."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Meta(max_length=100)] | None = None
    name: _ShortText | None = None


class StreamOptions(Struct, forbid_unknown_fields=True):
    """How to stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(Struct, forbid_unknown_fields=True):
    """`json_object` and `json_schema` are for assistants with an answer schema, which then decides."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class ChatRequest(Struct, forbid_unknown_fields=True):
    """A question. Decoding belongs to the served variant: sampling parameters are accepted for clients that send them, without effect."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=200)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    metadata: Annotated[dict[_ShortText, _ShortText], Meta(max_length=16)] | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: _ShortText | Annotated[list[_ShortText], Meta(max_length=4)] | None = None
    seed: int | None = None
    user: _ShortText | None = None
    store: bool | None = None


def chat_routes(parts: Parts) -> list[Route]:
    """Questions and the list of assistants."""

    async def completions(request: Request, caller: Caller) -> Response:
        asked = decode(await read_body(request), ChatRequest)
        return await _complete(parts, asked, caller)

    async def models(_request: Request, caller: Caller) -> Response:
        specs = await parts.quick.run(lambda: parts.answering.assistants(caller.user, groups=caller.groups))
        return json_response({"object": "list", "data": [_model(spec) for spec in specs]})

    async def model(request: Request, caller: Caller) -> Response:
        name = request.path_params["name"]
        specs = await parts.quick.run(lambda: parts.answering.assistants(caller.user, groups=caller.groups))
        for spec in specs:
            if spec.name == name:
                return json_response(_model(spec))
        raise UnknownObjectError("assistant", name, hint="`GET /v1/models` lists the assistants that you may use.")

    return [
        route(parts, "/v1/chat/completions", completions, methods=["POST"]),
        route(parts, "/v1/models", models, methods=["GET"]),
        route(parts, "/v1/models/{name}", model, methods=["GET"]),
    ]


async def _complete(parts: Parts, asked: ChatRequest, caller: Caller) -> Response:
    if parts.state.draining:
        raise DependencyError("gateway", "The gateway is shutting down.", hint="Try again: another one answers.")
    started = time.monotonic()
    watch = _Watch(parts, started)
    try:
        request = _ask_request(asked, caller)
        answered = await parts.slow.run(lambda: parts.answering.answer(request))
        watch.answered(answered)
        headers = {ANSWER_ID_HEADER: answered.record.answer_id}
        if asked.stream:
            include_usage = asked.stream_options is not None and asked.stream_options.include_usage
            events = _events(answered, watch, include_usage=include_usage)
            streaming = {**headers, "cache-control": "no-store", "x-accel-buffering": "no"}
            return _WatchedStream(watch, events, media_type="text/event-stream", headers=streaming)
        watch.end("ok")
        return json_response(_completion(answered), headers=headers)
    except BaseException as error:
        watch.end(_outcome(error))
        raise


def _outcome(error: BaseException) -> str:
    if isinstance(error, DependencyError):
        return "unavailable"
    if isinstance(error, AffinageError):
        return "refused"
    return "cancelled" if not isinstance(error, Exception) else "error"


class _Watch:
    """Counts one request exactly once, whatever becomes of it."""

    def __init__(self, parts: Parts, started: float) -> None:
        self._parts = parts
        self._started = started
        # Bounded labels: a name is a label only once it is known to be an assistant's.
        self._labels = ("none", "none")
        self._done = False
        self._answer_seconds = 0.0
        parts.state.inflight += 1
        parts.metrics.gateway_inflight.inc()

    def answered(self, answered: Answered) -> None:
        record = answered.record
        self._labels = (record.assistant, record.arm)
        self._answer_seconds = record.seconds
        self._parts.metrics.tokens.labels("input").inc(record.input_tokens)
        self._parts.metrics.tokens.labels("output").inc(record.output_tokens)

    def first_byte(self) -> None:
        self._parts.metrics.gateway_time_to_first_token.labels(*self._labels).observe(time.monotonic() - self._started)

    def end(self, outcome: str) -> None:
        if self._done:
            return
        self._done = True
        metrics = self._parts.metrics
        self._parts.state.inflight -= 1
        metrics.gateway_inflight.dec()
        metrics.gateway_requests.labels(*self._labels, outcome).inc()
        seconds = time.monotonic() - self._started
        metrics.gateway_request_duration.labels(*self._labels).observe(seconds)
        if outcome == "ok":
            metrics.gateway_overhead.observe(max(0.0, seconds - self._answer_seconds))


class _WatchedStream(StreamingResponse):
    """Ends its watch even when the caller left before the first event was asked for."""

    def __init__(self, watch: _Watch, content: AsyncIterator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watch.end("cancelled")


def _ask_request(asked: ChatRequest, caller: Caller) -> AskRequest:
    messages = tuple(Message("system" if m.role == "developer" else m.role, _text(m)) for m in asked.messages)
    regenerates = (asked.metadata or {}).get("regenerates")
    return AskRequest(asked.model, messages, caller.user, caller.groups, regenerates, wants_json=_wants_json(asked))


def _wants_json(asked: ChatRequest) -> bool:
    return asked.response_format is not None and asked.response_format.type != "text"


def _text(message: ChatMessage) -> str:
    content = message.content
    text = content if isinstance(content, str) else "\n".join(part.text for part in content or ())
    return storable(text, param="messages")


def _model(spec: AssistantSpec) -> dict[str, Any]:
    about = {"description": spec.description, "task": spec.task, "languages": spec.languages, "reasons": spec.feedback.reasons}
    about["sourced"] = bool(spec.sources)  # type: ignore[assignment]
    return {"id": spec.name, "object": "model", "created": 0, "owned_by": spec.organisation, "affinage": about}


def _usage(answered: Answered) -> dict[str, int]:
    record = answered.record
    return {
        "prompt_tokens": record.input_tokens,
        "completion_tokens": record.output_tokens,
        "total_tokens": record.input_tokens + record.output_tokens,
    }


def _about(answered: Answered) -> dict[str, Any]:
    return {"answer_id": answered.record.answer_id, "known": answered.record.known, "citations": answered.citations()}


def _frame(answered: Answered, kind: str) -> dict[str, Any]:
    record = answered.record
    created = int(record.created_at.timestamp())
    return {"id": f"chatcmpl-{record.answer_id}", "object": kind, "created": created, "model": record.assistant}


def _completion(answered: Answered) -> dict[str, Any]:
    message = {"role": "assistant", "content": answered.record.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    frame = _frame(answered, "chat.completion")
    return {**frame, "choices": [choice], "usage": _usage(answered), "affinage": _about(answered)}


async def _events(answered: Answered, watch: _Watch, *, include_usage: bool) -> AsyncIterator[bytes]:
    frame = _frame(answered, "chat.completion.chunk")
    outcome = "cancelled"
    try:
        yield _event({**frame, "choices": [_delta({"role": "assistant", "content": ""})]})
        watch.first_byte()
        for piece in answered.pieces():
            yield _event({**frame, "choices": [_delta({"content": piece})]})
        about = _about(answered)
        yield _event({**frame, "choices": [_delta({}, finish_reason="stop")], "usage": _usage(answered), "affinage": about})
        if include_usage:
            yield _event({**frame, "choices": [], "usage": _usage(answered), "affinage": about})
        yield b"data: [DONE]\n\n"
        outcome = "ok"
    except Exception:
        outcome = "broken"
        log.exception("A stream broke.", extra={"answer_id": answered.record.answer_id})
        yield _event(error_body(AffinageError("The answer broke off.", hint="Ask again.")))
    finally:
        watch.end(outcome)


def _delta(delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}


def _event(content: object) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
