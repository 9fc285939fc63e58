"""Pods of a generator in this process: the real service over an engine of a few lines, each at an address of its own."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from affinage.engines.pods import Pods
from affinage.serving.generator import GeneratorService
from affinage.serving.responses import json_response
from affinage.serving.server import listen
from affinage.telemetry import EngineMetrics
from tests.support.generators import Echo

HOST = "pods.test"
WITHIN_SECONDS = 20


class Pod:
    """One pod.

    `busy` answers every adapter that is sent with 503; while `stalled` it answers nothing at all.
    """

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self.engine = Echo(folder)
        self.address = address
        self.busy = self.stalled = False
        service = GeneratorService(make_engine=lambda: self.engine, metrics=EngineMetrics("generator"), failed=pytest.fail)
        service.start()
        self._app = service.app()
        self._listening = listen(address, port, option="--port")
        self.port = int(self._listening.getsockname()[1])
        self._server = uvicorn.Server(uvicorn.Config(self._ask, interface="asgi3", log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]}, daemon=True)
        self._thread.start()
        until = time.monotonic() + WITHIN_SECONDS
        while not service.ready:
            assert time.monotonic() < until
            time.sleep(0.005)

    def take(self, name: str, folder: Path) -> None:
        """Be sent an adapter by somebody else."""
        alone = Pods(f"http://{self.address}:{self.port}")
        alone.send_adapter(name, folder)

    def stop(self) -> None:
        """Be gone."""
        self.stalled = False
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()

    async def _ask(self, scope: Any, receive: Any, send: Any) -> None:
        while self.stalled:
            await asyncio.sleep(0.01)
        if self.busy and scope["type"] == "http" and scope["method"] == "PUT":
            await json_response({"error": {"message": "overloaded"}}, status=503)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Fleet:
    """Pods of one base behind one name; a name server that knows those that are there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._addresses = itertools.count(2)
        self.pods: list[Pod] = []

    @property
    def url(self) -> str:
        """The address of them all."""
        return f"http://{HOST}:{self._port}"

    def add(self) -> Pod:
        """One more."""
        pod = Pod(self._folder, f"127.0.0.{next(self._addresses)}", self._port)
        self._port = pod.port
        self.pods.append(pod)
        return pod

    def adapters(self) -> list[list[str]]:
        """Those of each pod."""
        return [pod.engine.adapters() for pod in self.pods]

    def resolve(self, port: int) -> list[Any]:
        """What the system's resolver would give."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (pod.address, port)) for pod in self.pods]


@contextmanager
def fleet_of(folder: Path, patch: pytest.MonkeyPatch, *, pods: int) -> Iterator[Fleet]:
    """A fleet behind `HOST`, until the block ends."""
    fleet, asked = Fleet(folder), socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        return fleet.resolve(port) if host == HOST else asked(host, port, *more, **options)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        for _ in range(pods):
            fleet.add()
        yield fleet
    finally:
        for pod in fleet.pods:
            pod.stop()
