"""A real `affinage` process over a small indexed installation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.identity.keys import create_key
from affinage.settings import Settings
from affinage.wiring import Affinage

PERMITS = """# Parking permits

A parking permit is valid for two years. It costs 40 euros a year for residents.

Renew it online before it ends, or at the counter of the town hall.
"""
CANTEEN = """# Restauration scolaire

L'inscription à la cantine se fait avant le 15 juillet auprès du service des écoles.

Un repas non annulé 48 heures à l'avance est facturé.
"""
LEAVE = "# Leave\n\nStaff have 27 days of leave a year.\n"
DECLARED = {
    "sources": [
        {
            "name": "handbook",
            "path": "handbook",
            "access": [{"match": "public/**", "allow": ["everyone"]}, {"match": "hr/**", "allow": ["group:hr"]}],
        }
    ],
    "assistants": [{"name": "guichet", "description": "Answers questions on procedures.", "sources": ["handbook"]}],
}
START_SECONDS = 120
# A cold start on a machine that runs other tests.


def installed(folder: Path) -> Path:
    """A home with an indexed handbook of three documents; returns its path."""
    for name, text in {"public/permits.md": PERMITS, "public/cantine.md": CANTEEN, "hr/leave.md": LEAVE}.items():
        file = folder / "handbook" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    app = Affinage(Settings(home=folder / "home", threads=1))
    with app.database.write() as connection:
        apply_declarations(connection, parse_declarations(DECLARED, folder=folder, origin="test"), now=app.now())
    app.sync("handbook")
    app.close()
    return folder / "home"


class Process:
    """`affinage VERB…` on free ports, waited for until it is ready, and ended when the block ends."""

    def __init__(self, home: Path, *verb: str) -> None:
        self.home = home
        self._verb = verb
        self.url = self.metrics_url = ""
        self.link = ""

    def __enter__(self) -> Process:
        command = [sys.executable, "-m", "affinage.cli.main", *self._verb, "--port", "0", "--metrics-port", "0"]
        environ = {**os.environ, "AFFINAGE_HOME": str(self.home), "AFFINAGE_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._log = (self.home / f"{'-'.join(self._verb[:2])}.log").open("w+", encoding="utf-8")
        self.child = subprocess.Popen(command, env=environ, stdout=self._log, stderr=subprocess.STDOUT)
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.child.poll() is None:
            self.child.terminate()
        try:
            self.child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self._log.close()

    def key(self, user: str) -> str:
        app = Affinage(Settings(home=self.home))
        with app.database.write() as connection:
            key = create_key(connection, user=user, now=app.now(), new_id=app.new_id)[1]
        app.close()
        return key

    def log(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8")

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise AssertionError(f"the process ended with {self.child.returncode}: {self.log()}")
            found = re.search(r"listens on (\S+) and its metrics on (\S+?)\.\s", self.log())
            if found:
                self.url, self.metrics_url = found.groups()
                link = re.search(r"\S+/login\?token=\S+", self.log())
                self.link = link.group(0) if link else ""
                if self._ready():
                    return
            time.sleep(0.1)
        raise AssertionError(f"the process was not ready in {START_SECONDS} s: {self.log()}")

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=10) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
