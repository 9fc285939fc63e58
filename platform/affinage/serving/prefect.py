"""A Prefect server as a child process, and flows run against it.

Called by the demo and by `affinage up`: one machine needs no server of its own. Prefect itself is only imported by the
flows in `flows/`; this module starts programs and reads what they print.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import urllib3

from affinage.errors import AffinageError, DependencyError
from affinage.processes import spawn, stop

START_SECONDS = 120
# Seen: 3.4 s idle, 11 s with both cores busy; a cold disk is slower still.
POLL_SECONDS = 0.2


class PrefectServer:
    """A Prefect server, on loopback unless told otherwise, for as long as the `with` block lasts.

    Parameters
    ----------
    home
        Folder of its database and log.
    host
        Address it listens on; whoever reaches it can run code where its workers are.
    """

    def __init__(self, home: Path, *, host: str = "127.0.0.1") -> None:
        self._home = home
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a flow run needs to report to this server."""
        return {
            "PREFECT_API_URL": f"http://{self._host}:{self._port}/api",
            "PREFECT_HOME": str(self._home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "affinage",
            "DO_NOT_TRACK": "1",
        }

    def start(self) -> None:
        """Start the server without waiting for it.

        Raises
        ------
        ValueError
            If it was started before: two on one home would migrate its database at the same time.
        """
        if self._process is not None:
            raise ValueError("the server was started before")
        self._home.mkdir(parents=True, exist_ok=True)
        self._port = _free_port()
        command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--host", self._host, "--port", str(self._port)]
        with (self._home / "server.log").open("ab") as log:
            self._process = spawn(command, environment=self.environment, stdout=log, stderr=log)

    def wait(self) -> None:
        """Return when the server answers.

        Raises
        ------
        DependencyError
            If it ended, or does not answer within two minutes.
        """
        process = self._process
        if process is None:
            raise ValueError("start() comes first")
        http = urllib3.PoolManager(retries=False, timeout=2)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.request("GET", f"http://{self._host}:{self._port}/api/health").status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass  # not listening yet
            time.sleep(POLL_SECONDS)
        raise DependencyError("prefect", "The Prefect server did not start.", hint=f"Read {self._home / 'server.log'}.")

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            stop(self._process)

    def __enter__(self) -> PrefectServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class FlowRun:
    """A flow that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    def result(self) -> dict[str, Any]:
        """Wait for the flow and return what it returned.

        Raises
        ------
        AffinageError
            If the flow failed; names the log.
        """
        output, _ = self._process.communicate()
        lines = output.decode(errors="replace").strip().splitlines()
        if self._process.returncode == 0 and lines:
            answer: dict[str, Any] = json.loads(lines[-1])
            return answer
        tail = self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        raise AffinageError(f"The flow `{self._name}` failed: {tail[0]}", hint=f"Read {self._log}.")


def start_flow(script: Path, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> FlowRun:
    """Start the flow in `script` as a child; it prints its result as one JSON line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        command = [sys.executable, str(script), *arguments]
        process = spawn(command, environment=environment, stdout=subprocess.PIPE, stderr=errors)
    return FlowRun(process, script.stem, log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
