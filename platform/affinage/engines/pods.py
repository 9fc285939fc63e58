"""All pods behind one host name: which are ready, which adapters each has, and what is asked of which.

A headless Service resolves to one address for each pod; a plain name is one pod. Called by the clients of the two
services. A call that no pod has begun to answer goes to another one; a call that a pod is answering is never repeated.
"""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from affinage.engines.adapter_archive import write_archive
from affinage.engines.openai_http import CONNECT_SECONDS, READ_SECONDS, OpenAIServer, UnavailableError
from affinage.errors import AffinageError, ConfigurationError, DependencyError, UnknownObjectError

REFRESH_SECONDS = 2.0
"""A picture of the pods older than this is renewed, while it still serves."""
STALE_SECONDS = 15.0
"""One older than this does not serve: nobody has called for a while."""
PROBE_SECONDS = 5.0
PARALLEL = 32
"""Calls under way at once on one pod: what the generator's service answers in one batch."""
T = TypeVar("T")
Address = tuple[str, int]
Resolver = Callable[[str, int], Iterable[Address]]
log = logging.getLogger("affinage.engines")


def resolve(host: str, port: int) -> list[Address]:
    """Every address of `host`.

    Raises
    ------
    DependencyError
        If the name is not known now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnavailableError("engine", f"The name `{host}` has no address.", hint="Check that the pods run.") from error
    return sorted({(str(address[4][0]), port) for address in found})


@dataclass(eq=False)
class Pod:
    """One pod as it was last seen. `models` holds the facts of each model it has, its base first."""

    server: OpenAIServer
    ready: bool = False
    late: bool = False
    """Whether it did not answer the last look in time: it keeps its place, and is sent nothing."""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    inflight: int = 0

    @property
    def base(self) -> str:
        """Name of its base."""
        return next(iter(self.models))

    def model(self, adapter: str | None) -> str:
        """What to ask it for."""
        return adapter or self.base

    def has(self, adapter: str | None) -> bool:
        """Whether it can answer with `adapter`."""
        return adapter is None or adapter in self.models


class Pods:
    """The pods behind `url`, `http://HOST:PORT`.

    Parameters
    ----------
    digest
        Of the base they must hold; None: of the first one seen. A pod with another base is not used.
    resolver, monotonic
        Replaced in tests.

    Raises
    ------
    ConfigurationError
        If the URL is not of that form.
    """

    def __init__(
        self,
        url: str,
        *,
        digest: str | None = None,
        parallel: int = PARALLEL,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        resolver: Resolver = resolve,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username or parts.fragment:
            raise ConfigurationError(f"`{url}` is not the address of a service.", hint="Write http://HOST:PORT.")
        self.url = url
        self.digest = digest
        self._host, self._port = parts.hostname, parts.port or 80
        self._server = partial(OpenAIServer, parallel=parallel, connect_seconds=connect_seconds, read_seconds=read_seconds)
        self._resolver = resolver
        self._monotonic = monotonic
        self._pods: dict[Address, Pod] = {}
        self._taken: dict[str, set[str]] = {}  # by adapter, the pods that had it not before it was sent last
        self._seen_at = float("-inf")
        self._turns = 0
        self._lock = threading.Lock()  # for counting and choosing; never held over a call
        self._looking = threading.Lock()

    def ready(self, *, fresh: bool = False) -> list[Pod]:
        """The pods that can answer, as seen a moment ago, or just now when `fresh`.

        Raises
        ------
        UnavailableError
            If there is none.
        """
        age = self._monotonic() - self._seen_at
        if fresh or age > STALE_SECONDS:
            self._look()
        elif age > REFRESH_SECONDS and not self._looking.locked():
            # Not in the caller's time: a pod that hangs would cost each of them its time-out.
            threading.Thread(target=self._look_quietly, name="pods", daemon=True).start()
        ready = [pod for pod in self._pods.values() if pod.ready]
        if not ready and not fresh:
            return self.ready(fresh=True)
        if not ready:
            raise UnavailableError("engine", f"No pod behind `{self.url}` is ready.", hint="Try again in a moment.")
        return ready

    def adapters(self) -> list[str]:
        """The adapters that every ready pod has, sorted."""
        return sorted(set.intersection(*(set(pod.models) - {pod.base} for pod in self.ready())))

    def loaded(self) -> set[str]:
        """The adapters that some ready pod has; empty when no pod is ready."""
        try:
            return {name for pod in self.ready() for name in pod.models if name != pod.base}
        except DependencyError:
            return set()

    def facts(self, adapter: str | None = None) -> dict[str, Any]:
        """What the pods tell of their base, or of an adapter on it.

        Raises
        ------
        UnknownObjectError
            If no ready pod has the adapter.
        """
        for pod in self.candidates(adapter):
            return pod.models[pod.model(adapter)]
        raise self.none_left(adapter)

    def ask(self, adapter: str | None, call: Callable[[Pod], T]) -> T:
        """What `call` gives on a pod that has `adapter`.

        Raises
        ------
        UnknownObjectError
            If no ready pod has the adapter.
        DependencyError
            If no pod answers, or one fails while it answers.
        """
        for pod in self.candidates(adapter):
            try:
                with self.busy(pod):
                    return call(pod)
            except (UnavailableError, UnknownObjectError) as error:
                self.missed(pod, error)
        raise self.none_left(adapter)

    def candidates(self, adapter: str | None) -> Iterator[Pod]:
        """Ready pods that have `adapter`, each once, the one with the least in flight first; then those of a fresh look."""
        tried: list[Pod] = []
        for fresh in (False, True):
            for pod in self._ordered([pod for pod in self.ready(fresh=fresh) if pod.has(adapter) and pod not in tried]):
                tried.append(pod)
                yield pod

    @contextmanager
    def busy(self, pod: Pod) -> Iterator[None]:
        """Count a call on `pod`."""
        with self._lock:
            pod.inflight += 1
        try:
            yield
        finally:
            with self._lock:
                pod.inflight -= 1

    @staticmethod
    def missed(pod: Pod, error: DependencyError | UnknownObjectError) -> None:
        """Remember what a pod could not answer: it is gone, or it no longer has the adapter; or it has too much to do now."""
        if isinstance(error, UnknownObjectError):
            pod.models = {name: facts for name, facts in pod.models.items() if name != error.fields["name"]}
        elif "status" not in error.fields:
            pod.ready = False

    def none_left(self, adapter: str | None) -> AffinageError:
        """The error when no pod that was tried answered."""
        if adapter is not None and not any(pod.ready and pod.has(adapter) for pod in self._pods.values()):
            return UnknownObjectError("loaded adapter", adapter, hint="Load it first; no other adapter answers in its place.")
        return UnavailableError("engine", f"No pod behind `{self.url}` answers.", hint="Try again in a moment.")

    def send_adapter(self, name: str, folder: Path) -> None:
        """Send the files in `folder` to every ready pod.

        Also to those that list `name`: they compare the files, and only those that were loaded as `name` may have it. `withdraw_adapter`
        takes it back from the others.

        Raises
        ------
        DependencyError
            If one of them does not take the files; the others have them all the same. A pod that is gone meanwhile does not count.
        """
        pods = self.ready(fresh=True)
        self._taken[name] = {pod.server.root for pod in pods if not pod.has(name)}
        refusals: list[DependencyError] = []
        with tempfile.TemporaryFile() as file:
            size = write_archive(folder, file)
            for pod in pods:
                if pod.late:
                    continue
                file.seek(0)
                try:
                    pod.server.upload(_path(name), file, size_bytes=size)
                except UnavailableError as error:
                    self.missed(pod, error)  # it is started again without any adapter
                except DependencyError as error:
                    refusals.append(error)
        if refusals:
            raise refusals[0]
        ready = self.ready(fresh=True)
        without = [pod.server.root for pod in ready if not pod.has(name)]
        if without:
            message = f"{len(without)} of {len(ready)} pods behind `{self.url}` did not take `{name}`: {', '.join(without)}."
            raise UnavailableError("engine", message, hint="Look at that pod, or restart it.")

    def withdraw_adapter(self, name: str) -> None:
        """Have the pods forget `name` that had it not before it was sent last; those that served with it go on."""
        self._drop(name, self._taken.get(name, set()))

    def drop_adapter(self, name: str) -> None:
        """Have every ready pod forget `name`; absent is fine."""
        self._drop(name, {pod.server.root for pod in self.ready(fresh=True)})

    def _drop(self, name: str, roots: set[str]) -> None:
        for pod in self.ready(fresh=True):
            if pod.server.root in roots and pod.has(name) and not pod.late:
                try:
                    pod.server.send("DELETE", _path(name))
                except UnavailableError as error:
                    self.missed(pod, error)
        self.ready(fresh=True)

    def _ordered(self, pods: list[Pod]) -> list[Pod]:
        with self._lock:
            self._turns += 1
            turn = self._turns % len(pods) if pods else 0
            return sorted(pods[turn:] + pods[:turn], key=lambda pod: pod.inflight)

    def _look_quietly(self) -> None:
        try:
            self._look()
        except DependencyError:
            log.warning("The pods of an engine cannot be seen.", extra={"url": self.url})

    def _look(self) -> None:
        asked_at = self._monotonic()
        with self._looking:
            if self._seen_at > asked_at:
                return  # somebody else looked while this call waited
            addresses = self._addresses()
            pods = {address: self._pods.get(address) or self._new(address) for address in addresses}
            with ThreadPoolExecutor(max_workers=8, thread_name_prefix="probe") as threads:
                for pod, models in zip(pods.values(), threads.map(_probe, pods.values()), strict=True):
                    self._take_in(pod, models)
            self._pods = pods
            self._seen_at = self._monotonic()

    def _addresses(self) -> list[Address]:
        try:
            return list(self._resolver(self._host, self._port))
        except DependencyError:
            if not self._pods:
                raise
            return list(self._pods)  # a name server that fails does not take the pods away

    def _new(self, address: Address) -> Pod:
        host, port = address
        return Pod(self._server(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"))

    def _take_in(self, pod: Pod, models: dict[str, dict[str, Any]] | None) -> None:
        pod.late = models is None
        if models is None:
            return
        if not models:
            pod.ready = False
            return
        digest = str(next(iter(models.values())).get("digest"))
        self.digest = self.digest or digest
        pod.models, pod.ready = models, digest == self.digest
        if not pod.ready:
            log.warning("A pod is left out: it holds another base.", extra={"pod": pod.server.root})


def _probe(pod: Pod) -> dict[str, dict[str, Any]] | None:
    """The facts of each model; empty when the pod is not ready. None when it is late: then it is as it was, and busy."""
    try:
        listed = pod.server.models(read_seconds=PROBE_SECONDS)
        facts = {model["id"]: model.get("affinage") for model in listed}
        return {name: of if isinstance(of, dict) else {} for name, of in facts.items()}
    except UnavailableError:
        return {}
    except DependencyError as error:
        return None if error.retryable else {}


def _path(adapter: str) -> str:
    return f"/adapters/{quote(adapter, safe='@')}"
