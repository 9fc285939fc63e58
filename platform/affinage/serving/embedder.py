"""The embedder's service: vectors and token counts of the packaged embedder, bare or with an adapter that was sent to it.

Built by wiring, run by `services/embedder`. It has no credentials and calls nobody, and never logs what it embeds. Each
response names the fingerprint of what made the vectors, so that a caller can refuse those of another model.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from affinage.engines.protocols import Embedder
from affinage.serving.inference import Body, Inference, parsed, unknown_model
from affinage.serving.pool import Pool
from affinage.serving.responses import json_response
from affinage.serving.shelf import Shelf, adapter_routes, models_response
from affinage.telemetry import EngineMetrics

MAX_TEXTS = 256
MAX_TEXT_CHARS = 100_000
"""A text is cut at 256 tokens when it is embedded; counting the tokens of a longer one is for chunking only."""
MAX_BODY_BYTES = 8 * 1024**2
MAX_ADAPTERS = 4
"""Each is a whole graph of 90 MB in memory and on disk: the adapter is merged in."""
_SECONDS = 300.0
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Texts = Annotated[
    list[Text], Field(min_length=1, max_length=MAX_TEXTS), BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]


class EmbeddingsBody(Body):
    """`POST /v1/embeddings`."""

    model: str
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"


class TokensBody(Body):
    """`POST /v1/tokens`."""

    model: str
    input: Texts


class EmbedderService:
    """The embedder's routes over one base.

    Parameters
    ----------
    name
        Of the base, in requests.
    make
        The embedder of a PEFT folder, or of none; `cache` is where it may keep what it derives.
    base_shapes_of
        Shape of each weight of the base.
    cache
        Folder that outlives this process.
    threads
        Requests embedded at once, each with the threads of `make`.
    failed
        Ends the process when the weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        name: str,
        make: Callable[[Path, Path | None], Embedder],
        base_shapes_of: Callable[[], dict[str, tuple[int, ...]]],
        cache: Path,
        threads: int,
        metrics: EngineMetrics,
        failed: Callable[[], None],
    ) -> None:
        self._name = name
        self._make = make
        self._base_shapes_of = base_shapes_of
        self._cache = cache
        self._metrics = metrics
        self._inference = Inference(load=self._load, failed=failed, metrics=metrics)
        self._pool = Pool("embed", threads=threads, waiting=64, timeout_seconds=_SECONDS, whose="embedder")
        self._embedders: dict[str, Embedder] = {}
        self._shelf: Shelf

    @property
    def ready(self) -> bool:
        """Whether the weights are loaded and have given a vector."""
        return self._inference.ready

    def start(self) -> None:
        """Begin to load."""
        self._inference.start()

    def app(self) -> Starlette:
        """The ASGI application."""
        route = self._inference.route
        return self._inference.app(
            [
                route("/v1/models", self._models, "GET"),
                route("/v1/embeddings", self._embeddings, "POST"),
                route("/v1/tokens", self._tokens, "POST"),
                *adapter_routes(self._inference, shelf=lambda: self._shelf, pool=self._pool),
            ]
        )

    def _load(self) -> None:
        self._embedders[self._name] = _warm(self._make(self._cache, None))
        self._shelf = Shelf(load=self._load_adapter, unload=self._unload_adapter, base_shapes=self._base_shapes_of(), room=MAX_ADAPTERS)

    def _load_adapter(self, name: str, folder: Path) -> None:
        # The merged graph lies in the adapter's own folder, and goes with it.
        self._embedders[name] = _warm(self._make(folder, folder))

    def _unload_adapter(self, name: str) -> None:
        self._embedders.pop(name, None)

    async def _models(self, _request: Request) -> Response:
        return models_response({name: _facts(embedder) for name, embedder in self._embedders.copy().items()})

    async def _embeddings(self, request: Request) -> Response:
        body = await parsed(request, EmbeddingsBody, limit_bytes=MAX_BODY_BYTES)
        embedder, texts = self._embedder(body.model), body.input
        vectors, tokens = await self._pool.run(lambda: (embedder.embed(texts), sum(map(embedder.count_tokens, texts))))
        self._metrics.batch_rows.observe(len(texts))
        self._metrics.tokens.labels(direction="input").inc(tokens)
        encoded = [_encoded(vector, body.encoding_format) for vector in vectors]
        return json_response(
            {
                "object": "list",
                "model": body.model,
                "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(encoded)],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                "affinage": _facts(embedder),
            }
        )

    async def _tokens(self, request: Request) -> Response:
        body = await parsed(request, TokensBody, limit_bytes=MAX_BODY_BYTES)
        embedder, texts = self._embedder(body.model), body.input
        counts = await self._pool.run(lambda: [embedder.count_tokens(text) for text in texts])
        return json_response({"model": body.model, "tokens": counts, "affinage": _facts(embedder)})

    def _embedder(self, model: str) -> Embedder:
        embedder = self._embedders.get(model)
        if embedder is None:
            raise unknown_model(model)
        return embedder


def _facts(embedder: Embedder) -> dict[str, Any]:
    return {"digest": embedder.fingerprint, "dimensions": embedder.dimensions, "max_tokens": embedder.max_tokens}


def _encoded(vector: NDArray[np.float32], form: str) -> str | list[float]:
    # As a list each float32 is written exactly as a float64; in base64 it is its four bytes, little-endian.
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if form == "base64" else vector.tolist()


def _warm(embedder: Embedder) -> Embedder:
    embedder.embed(["ready"])
    return embedder
