"""What an embedder and a generator promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from affinage.errors import DependencyError


class RefusedTextsError(DependencyError):
    """Some texts cannot be embedded, each also when it is alone; the others were.

    `positions` are theirs among the texts that were given. `vectors` has a row for each text, of which those mean nothing.
    """

    def __init__(self, message: str, *, positions: Sequence[int], vectors: NDArray[np.float32]) -> None:
        super().__init__("embedder", message, hint="Shorten these texts, or check what the embedder takes.", retryable=False)
        self.positions = tuple(positions)
        self.vectors = vectors


class Embedder(Protocol):
    """Turns texts into unit vectors. The same text gives the same vector, alone or in a batch (to 1e-5)."""

    @property
    def fingerprint(self) -> str:
        """Digest over weights, adapter, pooling, normalisation and token limit: another value means other vectors."""

    @property
    def weights_in_fingerprint(self) -> bool:
        """Whether `fingerprint` is computed from the weights that are used. If not, other weights may come under the same one."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Longest text it embeds whole, in its own tokens including the special ones."""

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` including the special ones, not truncated."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n_texts, dimensions).

        Raises
        ------
        RefusedTextsError
            If some texts cannot be embedded, and the fault is theirs.
        """


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate.

    `adapter` is an immutable adapter name that was loaded before, or None for the bare base. `temperature` 0 is greedy.
    """

    messages: tuple[Message, ...]
    adapter: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    schema: dict[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Generation:
    """What came out."""

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: Literal["stop", "length"]


class Generator(Protocol):
    """Answers messages with one base model and any number of loaded adapters."""

    @property
    def base(self) -> str:
        """Name of the base, as registered."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Answers in the order of `requests`; batches them as it sees fit.

        Raises
        ------
        UnknownObjectError
            If a request names an adapter that is not loaded: never another adapter, never the bare base instead.
        """

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        """The answer in pieces, as they are generated."""

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the PEFT folder (safetensors only) available under `name`; the same name again is a no-op."""

    def unload_adapter(self, name: str) -> None:
        """Forget `name`; absent is fine."""

    def adapters(self) -> list[str]:
        """Names of the loaded adapters, sorted."""
