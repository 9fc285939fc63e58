"""Generators of a few lines: one answers from a table, one repeats what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from affinage.engines.protocols import Generation, GenerationRequest, Message
from affinage.errors import UnknownObjectError, UsageError
from affinage.registry.adapter_files import adapter_digest

Behaviour = Callable[[str], str]
"""From the last user message to the answer."""


class TableGenerator:
    """Answers as `base` does, or as the behaviour of the adapter's files does.

    Parameters
    ----------
    base
        Behaviour without an adapter.
    adapters
        Behaviour by digest of the adapter's files, so the files decide and not the name.
    """

    base = "table"

    def __init__(self, base: Behaviour, adapters: Mapping[str, Behaviour]) -> None:
        self._base = base
        self._known = dict(adapters)
        self._loaded: dict[str, Behaviour] = {}
        self.requests: list[GenerationRequest] = []

    def _behaviour(self, adapter: str | None) -> Behaviour:
        if adapter is None:
            return self._base
        if adapter not in self._loaded:
            raise UnknownObjectError("loaded adapter", adapter)
        return self._loaded[adapter]

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self.requests += requests
        texts = [self._behaviour(request.adapter)(request.messages[-1].content) for request in requests]
        return [Generation(text, 1, len(text.split()), "stop") for text in texts]

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        yield self.generate([request])[0].text

    def load_adapter(self, name: str, folder: Path) -> None:
        self._loaded.setdefault(name, self._known[adapter_digest(folder)])

    def unload_adapter(self, name: str) -> None:
        self._loaded.pop(name, None)

    def adapters(self) -> list[str]:
        return sorted(self._loaded)

    def log_probabilities(self, messages: Sequence[Message], target: str, *, adapter: str | None = None) -> list[float]:
        """Near 0 for each word of the target that the behaviour would say, far below for the others."""
        said = self._behaviour(adapter)(messages[-1].content).split()
        return [-0.1 if word in said else -3.0 for word in target.split()]


class Echo:
    """Says the last message in capitals, after the adapter's name."""

    base = "tiny"
    parallel = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: set[str] = set()
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.fault: Exception | None = None

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self.open.wait(10)
        self.batches.append(len(requests))
        for request in requests:
            if "too long" in request.messages[-1].content:
                raise UsageError("It does not fit.")
        return [self._say(request) for request in requests]

    def _say(self, request: GenerationRequest) -> Generation:
        text = (f"{request.adapter}: " if request.adapter else "") + request.messages[-1].content.upper()
        return Generation(text, 3, len(text.split()), "stop")

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        said = self._say(request)
        if "too long" in request.messages[-1].content:
            raise UsageError("It does not fit.")
        for i, character in enumerate(said.text):
            if i == 3 and self.fault is not None:
                raise self.fault
            yield character
        return said

    def log_probabilities(self, messages: Sequence[Message], target: str, *, adapter: str | None = None) -> list[float]:
        return [-0.1 - (adapter is None)] * len(target.split())

    def load_adapter(self, name: str, folder: Path) -> None:
        assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        if self.fault is not None:
            raise self.fault
        self.loaded.add(name)

    def unload_adapter(self, name: str) -> None:
        self.loaded.discard(name)

    def adapters(self) -> list[str]:
        return sorted(self.loaded)
