"""Real BentoML services on free ports of the loopback, ended with the test."""

from __future__ import annotations

import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from affinage.processes import spawn, stop

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
# A cold start on a machine that runs other tests; 5 to 14 s alone.


class Service:
    """A running `bentoml serve`."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self.child = spawn(
                [sys.executable, "-m", "bentoml", "serve", f"service:{name.capitalize()}", "--host", "127.0.0.1", "--port", str(self.port)],
                environment={
                    # Of its own: two services with one BENTOML_HOME show each other's state.
                    "BENTOML_HOME": str(folder / "bentoml"),
                    "BENTOML_DO_NOT_TRACK": "True",
                    "AFFINAGE_HOME": str(folder / "home"),
                    "AFFINAGE_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                    **environment,
                },
                stdout=log,
                stderr=log,
                folder=ROOT / "services" / name,
            )

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def status(self, path: str) -> int:
        """Status of GET, 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0

    def wait(self, seconds: float = START_SECONDS) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise AssertionError(f"the service ended with {self.child.returncode}: {self.log()}")
            if self.status("/readyz") == 200:
                return
            time.sleep(0.1)
        raise AssertionError(f"the service was not ready in {seconds} s: {self.log()}")


@contextmanager
def serve(name: str, folder: Path, *, wait: bool = True, port: int | None = None, **environment: str) -> Iterator[Service]:
    """The service of `services/<name>`, ready unless told not to wait."""
    folder.mkdir(parents=True, exist_ok=True)
    service = Service(name, folder, environment, port)
    try:
        if wait:
            service.wait()
        yield service
    finally:
        stop(service.child, grace_seconds=20)


def descendants(pid: int) -> dict[int, str]:
    """Command of each process below `pid`."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            found |= descendants(child)
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
