"""The gateway as a process: uvicorn, the metrics port, and an orderly end.

On SIGTERM the process stops being ready and refuses new questions, but stays alive and keeps listening until the last
stream has ended (or the grace time is over): a probe that finds it dead would have it killed. A second signal ends it
at once. With nothing in flight it ends immediately.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from prometheus_client import start_http_server
from starlette.applications import Starlette

from affinage.errors import UsageError
from affinage.serving.parts import Parts

GRACE_SECONDS = 45.0
# The longest answer on a slow machine; the pod's grace period must be longer.


class _Quiet(uvicorn.Server):
    """Ends with 0 on a signal: uvicorn would raise it again, and an orderly end would look like a crash."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: stop. Second: at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: drain. Second: stop."""
        # Not kept in `_captured_signals`: uvicorn would raise it again, and an orderly end would look like a crash.
        if self._parts.state.draining or not self.started:
            self.should_exit = self.force_exit = True
        self._parts.state.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Ask, ten times a second, whether to stop."""
        state = self._parts.state
        if state.draining and self._draining is None:
            self._draining = asyncio.create_task(asyncio.sleep(GRACE_SECONDS))
        if state.draining and (state.inflight == 0 or (self._draining is not None and self._draining.done())):
            self.should_exit = True
        return await super().on_tick(counter)


def run_gateway(app: Starlette, *, host: str, port: int, metrics_port: int, started: Callable[[str, str], None]) -> None:
    """Serve `app` until a signal ends it.

    Parameters
    ----------
    port, metrics_port
        0 takes a free port.
    started
        Called with the two addresses as soon as the sockets are open.

    Raises
    ------
    UsageError
        If an address cannot be listened on.
    """
    parts: Parts = app.state.parts
    listening = listen(host, port, option="--port")
    try:
        metrics, _ = start_http_server(metrics_port, addr=host, registry=parts.metrics.registry)
    except OSError as error:
        raise _busy(host, metrics_port, error, option="--metrics-port") from error
    try:
        started(address_of(listening.getsockname()), address_of(metrics.server_address))
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, timeout_keep_alive=5
        )
        _Server(config, parts).run(sockets=[listening])
    finally:
        metrics.shutdown()
        metrics.server_close()
        listening.close()


def run_application(app: Starlette, *, host: str, port: int, option: str, started: Callable[[str], None]) -> None:
    """Serve `app` until a signal ends it.

    Parameters
    ----------
    option
        What the user may change when the address is taken.
    started
        Called with the address as soon as the socket is open.

    Raises
    ------
    UsageError
        If the address cannot be listened on.
    """
    listening = listen(host, port, option=option)
    try:
        started(address_of(listening.getsockname()))
        _Quiet(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)).run(sockets=[listening])
    finally:
        listening.close()


@contextmanager
def background_gateway(app: Starlette) -> Iterator[str]:
    """Serve `app` on a free port of this machine while the block lasts; gives the address."""
    listening = listen("127.0.0.1", 0, option="--port")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True, name="gateway")
    thread.start()
    try:
        yield address_of(listening.getsockname())
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """A listening socket; `option` is what the user may change when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise _busy(host, port, error, option=option) from error
    # Callers that connect before the server runs wait in the queue instead of being refused.
    listening.listen(2048)
    return listening


def _busy(host: str, port: int, error: OSError, *, option: str) -> UsageError:
    return UsageError(f"Cannot listen on {host}:{port}: {error.strerror or error}.", hint=f"Choose another port with `{option}`.")


def address_of(address: object) -> str:
    """The URL of a socket's address."""
    host, port = (address[0], address[1]) if isinstance(address, tuple) else (str(address), 0)
    return f"http://{f'[{host}]' if ':' in str(host) else host}:{port}"
