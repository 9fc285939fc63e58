"""A generator that runs as a service: one base on every pod behind a host name.

Called by wiring for engines that the settings map to a URL. Needs neither weights nor torch. Never answers with another
adapter, never repeats what a reader has begun to read, and never logs or quotes what was asked or answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from affinage.engines.openai_http import UnavailableError
from affinage.engines.pods import PARALLEL, Pod, Pods
from affinage.engines.protocols import Generation, GenerationRequest, Message
from affinage.errors import RefusedError, UnknownObjectError

AGREEMENT = 0.05
"""Mean log-probabilities of honest pods in bf16 differ by less (measured: 0.016 between machines)."""


class GeneratorPool:
    """The generator behind `pods`; `engine` is its name as declared."""

    def __init__(self, engine: str, pods: Pods) -> None:
        self._engine = engine
        self._pods = pods

    @property
    def base(self) -> str:
        """The engine's name, as declared."""
        return self._engine

    @property
    def pods(self) -> Pods:
        """The pods themselves."""
        return self._pods

    def look(self) -> str:
        """Look at every pod now; the digest of the base that they hold.

        Raises
        ------
        DependencyError
            If no pod is ready.
        """
        self._pods.ready(fresh=True)
        return self.base_digest

    @property
    def base_digest(self) -> str:
        """Digest of the base that the pods hold."""
        return str(self._pods.facts()["digest"])

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Answers in the order of `requests`; the pods batch what comes together.

        Raises
        ------
        UnknownObjectError
            If no pod has a request's adapter.
        DependencyError
            If no pod answers, or one is late, refuses or answers something else.
        """
        if len(requests) <= 1:
            return [self._one(request) for request in requests]
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="generate") as threads:
            return list(threads.map(self._one, requests))

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        """The answer in pieces.

        Raises
        ------
        DependencyError
            Also after the first piece, when the pod is gone before its end mark: never a silent end.
        """
        for pod in self._pods.candidates(request.adapter):
            begun = False
            try:
                with self._pods.busy(pod):
                    for piece in pod.server.stream(request, model=pod.model(request.adapter)):
                        begun = True
                        yield piece
                    return
            except (UnavailableError, UnknownObjectError) as error:
                self._pods.missed(pod, error)
                if begun:
                    raise
        raise self._pods.none_left(request.adapter)

    def log_probabilities(self, messages: Sequence[Message], target: str, *, adapter: str | None = None) -> list[float]:
        """Log-probability of each token of `target` given `messages`, asked of every pod that has the adapter.

        Raises
        ------
        RefusedError
            If the pods differ by more than `AGREEMENT` in their means: then one of them does not hold what it says.
        """
        answers: list[list[float]] = []
        for pod in [pod for pod in self._pods.ready() if pod.has(adapter)]:
            try:
                answers.append(_log_probabilities(pod, messages, target, adapter))
            except (UnavailableError, UnknownObjectError) as error:
                self._pods.missed(pod, error)
        if not answers:
            raise self._pods.none_left(adapter)
        means = [float(np.mean(answer)) for answer in answers]
        # NaN fails the comparison, as it must; Python's own `max` would lose it.
        if not np.ptp(means) <= AGREEMENT:
            raise RefusedError(
                f"The pods behind `{self._pods.url}` do not agree on `{adapter or self.base}`.",
                reasons=[f"Their mean log-probabilities go from {min(means):.3f} to {max(means):.3f}; {AGREEMENT} apart is allowed."],
                hint="Restart the pods, then load the adapter again.",
            )
        return answers[0]

    def load_adapter(self, name: str, folder: Path) -> None:
        """Send the PEFT folder to every ready pod; one that has loaded these files as `name` has nothing to do.

        Raises
        ------
        DependencyError
            If a ready pod does not take it.
        """
        self._pods.send_adapter(name, folder)

    def unload_adapter(self, name: str) -> None:
        """Have every ready pod forget `name`; absent is fine."""
        self._pods.drop_adapter(name)

    def withdraw_adapter(self, name: str) -> None:
        """Have the pods forget `name` that had it not before it was loaded last."""
        self._pods.withdraw_adapter(name)

    def adapters(self) -> list[str]:
        """Names of the adapters that every ready pod has, sorted."""
        return self._pods.adapters()

    def serves(self, adapter: str) -> bool:
        """Whether some ready pod has the adapter, now if not a moment ago: enough to answer with it."""
        return any(pod.has(adapter) for fresh in (False, True) for pod in self._pods.ready(fresh=fresh))

    def _one(self, request: GenerationRequest) -> Generation:
        return self._pods.ask(request.adapter, lambda pod: pod.server.complete(request, model=pod.model(request.adapter)))


def _log_probabilities(pod: Pod, messages: Sequence[Message], target: str, adapter: str | None) -> list[float]:
    body = {
        "model": pod.model(adapter),
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "target": target,
    }
    content = pod.server.json("POST", "/log_probabilities", body, adapter=adapter)
    try:
        return [float(value) for value in content["log_probabilities"]]
    except (KeyError, TypeError, ValueError) as error:
        raise pod.server.nonsense() from error
