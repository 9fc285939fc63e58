"""Peak memory of this process and its children, sampled.

Proportional set size: pages that several processes share (torch's libraries, 1 GB of them) count once.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

PERIOD_SECONDS = 1.0
# Reading the sums takes a few milliseconds a process; training steps last longer than this.


class PeakMemory:
    """Watches while the `with` block lasts; `peak_bytes` is the largest sum seen."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peak-memory")

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, sum(_pss_bytes(pid) for pid in _family(os.getpid())))
            if self._done.wait(PERIOD_SECONDS):
                return


def _family(root: int) -> list[int]:
    """`root` and all its descendants; a process that ends meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
