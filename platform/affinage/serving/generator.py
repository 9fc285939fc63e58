"""The generator's service: one base, the adapters that were sent to it, and OpenAI's chat completions.

Built by wiring, run by `services/generator`. It has no credentials and calls nobody. It answers with the model that was
asked for or with 404, and never logs what it was asked.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from affinage.engines.digest import base_digest
from affinage.engines.protocols import Generation, GenerationRequest, Generator, Message
from affinage.engines.tensors import base_shapes_of
from affinage.errors import AffinageError, DependencyError
from affinage.serving.batching import Batcher
from affinage.serving.inference import Body, Inference, PieceStream, parsed, unknown_model
from affinage.serving.pool import Pool
from affinage.serving.responses import MAX_BODY_BYTES, error_body, json_response
from affinage.serving.shelf import Shelf, adapter_routes, models_response
from affinage.telemetry import EngineMetrics

MAX_ADAPTERS = 64
"""At rank 16 an adapter of SmolLM2-135M is 10 MB, one of a model of 8 billion parameters 84 MB."""
BATCH_ROWS = 32
WAITING_REQUESTS = 128
MAX_STREAMS = 32
MAX_MESSAGES = 256
_SECONDS = 600.0
# The longest piece of work in a thread; a load of 500 MB from a slow disk is below it.


class LocalGenerator(Generator, Protocol):
    """A generator of this pod, with its weights in a folder. It takes `parallel` calls of `generate` at once."""

    folder: Path
    parallel: int

    def log_probabilities(self, messages: list[Message], target: str, *, adapter: str | None = None) -> list[float]:
        """Log-probability of each token of `target` given `messages`."""


class ChatMessage(Body):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str

    def turn(self) -> Message:
        """As the engine takes it."""
        return Message(self.role, self.content)


class JsonSchema(Body):
    """The schema of a JSON answer; it ends the answer, the caller validates."""

    name: str = "answer"
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """Text, or a JSON object."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_of_answer(self) -> dict[str, Any] | None:
        """None for text."""
        if self.type == "text":
            return None
        return self.json_schema.schema_ if self.json_schema is not None else {"type": "object"}


class StreamOptions(Body):
    """What a stream ends with."""

    include_usage: bool = False


class ChatBody(Body):
    """`POST /v1/chat/completions`."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int = Field(default=256, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int = Field(default=0, ge=0, lt=2**63)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None


class LogProbabilitiesBody(Body):
    """`POST /v1/log_probabilities`."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    target: str


class GeneratorService:
    """The generator's routes over one engine.

    Parameters
    ----------
    make_engine
        Names the engine and finds its weights; called in the background.
    failed
        Ends the process when the engine cannot be loaded, or is gone.
    """

    def __init__(self, *, make_engine: Callable[[], LocalGenerator], metrics: EngineMetrics, failed: Callable[[], None]) -> None:
        self._make_engine = make_engine
        self._metrics = metrics
        self._inference = Inference(load=self._load, failed=failed, metrics=metrics)
        self._pool = Pool("engine", threads=4, waiting=64, timeout_seconds=_SECONDS, whose="generator")
        self._streams = ThreadPoolExecutor(MAX_STREAMS, thread_name_prefix="stream")
        self._streaming = 0
        self._serial = itertools.count(1)
        self._engine: LocalGenerator
        self._batcher: Batcher
        self._shelf: Shelf
        self._digest = ""

    @property
    def ready(self) -> bool:
        """Whether the weights are loaded and have given a token."""
        return self._inference.ready

    def start(self) -> None:
        """Begin to load."""
        self._inference.start()

    def engine_ended(self) -> None:
        """Tell that the engine is gone: the service ends, and nobody waits for it."""
        self._inference.engine_ended()

    def app(self) -> Starlette:
        """The ASGI application."""
        route = self._inference.route
        return self._inference.app(
            [
                route("/v1/models", self._models, "GET"),
                route("/v1/chat/completions", self._chat, "POST"),
                route("/v1/log_probabilities", self._log_probabilities, "POST"),
                *adapter_routes(self._inference, shelf=lambda: self._shelf, pool=self._pool),
            ]
        )

    def _load(self) -> None:
        engine = self._make_engine()
        engine.generate([GenerationRequest((Message("user", "ready"),), max_tokens=1)])
        self._digest = base_digest(engine.folder)
        self._shelf = Shelf(
            load=engine.load_adapter,
            unload=engine.unload_adapter,
            base_shapes=base_shapes_of(engine.folder),
            room=MAX_ADAPTERS,
        )
        self._batcher = Batcher(
            engine.generate,
            rows=BATCH_ROWS if engine.parallel == 1 else 1,
            threads=engine.parallel,
            waiting=WAITING_REQUESTS,
            observe=self._metrics.batch_rows.observe,
        )
        self._engine = engine

    async def _models(self, _request: Request) -> Response:
        facts = {self._engine.base: self._digest, **self._shelf.digests()}
        return models_response({name: {"digest": digest} for name, digest in facts.items()})

    async def _chat(self, request: Request) -> Response:
        body = await parsed(request, ChatBody, limit_bytes=MAX_BODY_BYTES)
        wanted = GenerationRequest(
            tuple(message.turn() for message in body.messages),
            adapter=self._adapter(body.model),
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            seed=body.seed,
            schema=None if body.response_format is None else body.response_format.schema_of_answer(),
        )
        head = {"id": f"chatcmpl-{next(self._serial)}", "created": int(time.time()), "model": body.model}
        if body.stream:
            return await self._stream(wanted, head, usage=body.stream_options is not None and body.stream_options.include_usage)
        answer = await asyncio.wrap_future(self._batcher.submit(wanted))
        choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": answer.finish_reason}
        return json_response({**head, "object": "chat.completion", "choices": [choice], "usage": self._count(answer)})

    async def _stream(self, wanted: GenerationRequest, head: dict[str, Any], *, usage: bool) -> Response:
        if self._streaming >= MAX_STREAMS:
            raise DependencyError("generator", "The generator is overloaded.", hint="Try again in a moment.")
        self._streaming += 1
        try:
            pieces = iter(self._engine.stream(wanted))
            # Before the first byte an error still has its status.
            first = await self._next(pieces)
        except BaseException:
            self._streaming -= 1
            raise
        response = PieceStream(self._events(first, pieces, {**head, "object": "chat.completion.chunk"}, usage=usage))
        response.on_end(self._stream_ended)
        return response

    def _stream_ended(self) -> None:
        self._streaming -= 1

    async def _events(
        self, piece: str | Generation | None, pieces: Iterator[str], head: dict[str, Any], *, usage: bool
    ) -> AsyncIterator[bytes]:
        def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
            return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        try:
            yield chunk({"role": "assistant", "content": ""})
            while isinstance(piece, str):
                yield chunk({"content": piece})
                piece = await self._next(pieces)
        except AffinageError as error:
            # No end mark: a reader must not take this for the whole answer.
            yield _event(error_body(error))
            return
        except Exception:  # noqa: BLE001 - the stream's edge; the engine's text may quote the question, so it is not logged
            yield _event(error_body(AffinageError("The generator failed in the middle of its answer.")))
            return
        yield chunk({}, piece.finish_reason if piece is not None else "stop")
        if piece is not None:
            counted = self._count(piece)
            if usage:
                yield _event({**head, "choices": [], "usage": counted})
        yield b"data: [DONE]\n\n"

    async def _next(self, pieces: Iterator[str]) -> str | Generation | None:
        """The next piece; at the end the whole generation, if the engine tells it."""

        def take() -> str | Generation | None:
            try:
                return next(pieces)
            except StopIteration as end:
                return end.value if isinstance(end.value, Generation) else None

        return await asyncio.get_running_loop().run_in_executor(self._streams, take)

    async def _log_probabilities(self, request: Request) -> Response:
        body = await parsed(request, LogProbabilitiesBody, limit_bytes=MAX_BODY_BYTES)
        adapter = self._adapter(body.model)
        messages = [message.turn() for message in body.messages]
        values = await self._pool.run(lambda: self._engine.log_probabilities(messages, body.target, adapter=adapter))
        return json_response({"model": body.model, "log_probabilities": values})

    def _adapter(self, model: str) -> str | None:
        """The adapter that `model` names, None for the base."""
        if model == self._engine.base:
            return None
        if model not in self._shelf.digests():
            raise unknown_model(model)
        return model

    def _count(self, answer: Generation) -> dict[str, int]:
        self._metrics.tokens.labels(direction="input").inc(answer.input_tokens)
        self._metrics.tokens.labels(direction="output").inc(answer.output_tokens)
        total = answer.input_tokens + answer.output_tokens
        return {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens, "total_tokens": total}


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
