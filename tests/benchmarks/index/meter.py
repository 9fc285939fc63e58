"""What one run of one engine cost, measured inside its own process and written as one JSON object.

Standard library only: the peers' environments hold nothing of ours.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.index.embedder import MeteredEmbedder


class Meter:
    """Wall and processor seconds of the work, without imports and set-up; peak memory of the whole process."""

    def __init__(self, embedder: MeteredEmbedder) -> None:
        self.embedder = embedder
        self.result: dict[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the work."""
        began, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.result["seconds"] = round(time.perf_counter() - began, 4)
        self.result["cpu_seconds"] = round(_cpu_seconds() - cpu, 4)

    def write(self, file: Path, **counts: Any) -> None:
        """Everything, as JSON."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        embedder = self.embedder
        self.result |= {"embedded": embedder.texts, "calls": embedder.calls, "embedder_seconds": round(embedder.seconds, 4)}
        file.write_text(json.dumps(self.result | {"peak_rss_bytes": peak} | counts), encoding="utf-8")


def arguments(doc: str) -> argparse.Namespace:
    """What every engine is told: where its state and the documents are, and what to do."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--state", type=Path, required=True, help="the engine's own folder, kept between runs")
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--cost", type=float, default=0.0, help="seconds the embedder takes for a text")
    parser.add_argument("--restricted", type=int, default=0, help="so many files, the first ones, are for another group")
    found = parser.parse_args()
    found.state.mkdir(parents=True, exist_ok=True)
    return found


def _cpu_seconds() -> float:
    # Children too: an engine may work in processes of its own.
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
