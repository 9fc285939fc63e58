"""The index against its peers on one generated corpus: `make bench-index`, or

    python -m tests.benchmarks.index --json FILE --peer langchain=PYTHON --peer cocoindex=PYTHON

Every engine is a process of its own for each workload, with the same embedder. What is measured is in `meter.py`, what must
be reached in `workloads.py`. Exits 1 when this engine misses a figure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.index import table
from tests.benchmarks.index.corpus import Corpus
from tests.benchmarks.index.workloads import WORKLOADS, Result, Workload

ROOT = Path(__file__).parents[3]
COST_SECONDS = 0.002
# The second cost model: what a text takes on a small model and a busy processor.
INSIDE_EMBEDDER = 0.85
OURS = "ours"
LARGE_DOCUMENTS, LARGE_BYTES = 50_000, 1_500


class Engine:
    """One engine with a folder of its own for its state and for its copy of the corpus."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._python = python

    def start(self, corpus: Corpus, *, state: str, out: str, cost: float = 0.0, restricted: int = 0) -> subprocess.Popen[str]:
        """Begin one run."""
        command = [self._python, "-m", f"tests.benchmarks.index.engines.{self.name}", "--docs", str(corpus.folder)]
        command += ["--state", str(self.folder / state), "--out", str(self.folder / out)]
        command += ["--cost", str(cost), "--restricted", str(restricted)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "platform") if self.name == OURS else ""}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str], out: str) -> Result:
        """What the run found, or the last line it wrote before it failed."""
        _, said = process.communicate()
        if process.returncode:
            return {"error": (said.strip().splitlines() or [f"exit {process.returncode}"])[-1]}
        found: Result = json.loads((self.folder / out).read_text(encoding="utf-8"))
        return found

    def run(self, corpus: Corpus, *, state: str = "state", out: str = "out.json", **options: Any) -> Result:
        """One run from beginning to end."""
        return self.finish(self.start(corpus, state=state, out=out, **options), out)


def one_after_another(engine: Engine, seed: int) -> list[Result]:
    """Every workload on the same state."""
    corpus = Corpus(engine.folder / "docs", seed=seed)
    corpus.write()
    results = []
    for workload in WORKLOADS:
        workload.change(corpus)
        corpus.settle()
        results.append(engine.run(corpus, restricted=workload.restricted))
        note(f"{engine.name}: {workload.title}: {results[-1]}")
    return results


def cold_with_cost(engine: Engine, seed: int) -> Result:
    """A cold run whose embedder takes time."""
    corpus = Corpus(engine.folder / "docs-cost", seed=seed)
    corpus.write()
    return engine.run(corpus, state="state-cost", cost=COST_SECONDS)


def together(engine: Engine, seed: int) -> Result:
    """Two cold runs started at the same time on one state, then a third one alone; `rows` are counted after it."""
    corpus = Corpus(engine.folder / "docs-together", seed=seed)
    corpus.write()
    corpus.settle()
    outs = ["first.json", "second.json"]
    both = [engine.start(corpus, state="state-together", out=out) for out in outs]
    results = [engine.finish(process, out) for process, out in zip(both, outs, strict=True)]
    last = engine.run(corpus, state="state-together")
    failed = [result for result in (*results, last) if "error" in result]
    if failed:
        return failed[0]
    summed = {name: sum(result[name] for result in (*results, last)) for name in ("embedded", "cpu_seconds")}
    highest = {name: max(result[name] for result in results) for name in ("seconds", "peak_rss_bytes")}
    return {**summed, **highest, "rows": last["rows"]}


def large(engine: Engine, seed: int, cold: Result) -> list[dict[str, Any]]:
    """Ten times the corpus, and a day of many documents: minutes, so only when asked for."""
    corpus = Corpus(engine.folder / "docs-ten", seed=seed, small=20_000)
    corpus.write()
    ten = engine.run(corpus, state="state-ten")
    limit = 1.1 * cold["peak_rss_bytes"]
    rows = [row("10 times the corpus", "memory +10 % at most", {OURS: ten}, [] if ten["peak_rss_bytes"] <= limit else ["memory"])]
    shutil.rmtree(corpus.folder)
    corpus = Corpus(engine.folder / "docs-many", seed=seed, small=LARGE_DOCUMENTS, size=LARGE_BYTES)
    corpus.write()
    first = engine.run(corpus, state="state-many")
    rows.append(row("50,000 documents, cold", "", {OURS: first}, None))
    changed = corpus.paths()[::100]
    corpus.edit(changed)
    corpus.settle()
    day = engine.run(corpus, state="state-many")
    misses = [f"embedded {day['embedded']}"] if day["embedded"] > 3 * len(changed) else []
    misses += [f"{day['seconds']} s"] if day["seconds"] - day["embedder_seconds"] > 30 else []
    misses += ["memory"] if day["peak_rss_bytes"] > limit else []
    rows.append(row("1 % of them changed", "<= 3 embedded each, <= 30 s, memory flat", {OURS: day}, misses))
    return rows


def row(title: str, must: str, results: dict[str, Result], misses: list[str] | None) -> dict[str, Any]:
    """One line of the table."""
    return {"title": title, "must": must, "results": results, "misses": misses}


def _misses(workload: Workload, result: Result) -> list[str]:
    return [result["error"]] if "error" in result else workload.misses(result)


def note(line: str) -> None:
    """Progress: standard output holds the table alone."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write everything that was measured")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help="an engine and the interpreter that has it")
    parser.add_argument("--large", action="store_true", help="also 10 times the corpus and 50,000 documents: some 10 minutes more")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-index-") as temporary:
        pythons = {OURS: sys.executable, **dict(peer.split("=", 1) for peer in given.peer)}
        engines = {name: Engine(name, python, Path(temporary) / name) for name, python in pythons.items()}
        rows = measure(engines, seed=given.seed, with_large=given.large)
    sys.stdout.write("\n".join(table.lines(rows, list(engines))) + "\n")
    if given.json:
        given.json.write_text(json.dumps({"seed": given.seed, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(found["misses"] for found in rows))


def measure(engines: dict[str, Engine], *, seed: int, with_large: bool) -> list[dict[str, Any]]:
    """Every row of the table."""
    for engine in engines.values():
        engine.folder.mkdir()
    found = {name: one_after_another(engine, seed) for name, engine in engines.items()}
    rows = []
    for number, workload in enumerate(WORKLOADS):
        if not workload.prepares:
            rows.append(
                row(workload.title, workload.must, {n: f[number] for n, f in found.items()}, _misses(workload, found[OURS][number]))
            )
    cold = found[OURS][0]
    # The two peers whose store is in memory share none between processes: they are left out.
    shared = {name: engine for name, engine in engines.items() if name in (OURS, "cocoindex")}
    both = {name: together(engine, seed) for name, engine in shared.items()}
    extra = both[OURS].get("rows", 0) - cold.get("rows", 0)
    misses = [f"{extra} extra rows"] if extra else []
    misses += ["embedded"] if both[OURS].get("embedded", 0) > 1.02 * cold.get("embedded", 0) else []
    rows.append(row("two cold runs together", "0 extra rows, <= 2 % more embedded", both, misses))
    note(f"rows after two runs together: { ({name: result.get('rows') for name, result in both.items()}) }")
    slow = {name: cold_with_cost(engine, seed) for name, engine in engines.items()}
    share = slow[OURS].get("embedder_seconds", 0) / slow[OURS].get("seconds", 1)
    misses = [] if share >= INSIDE_EMBEDDER else [f"{share:.0%} inside"]
    rows.append(row("cold, 2 ms for each chunk", ">= 85 % of the time inside the embedder", slow, misses))
    if with_large:
        rows += large(engines[OURS], seed, cold)
    return rows


if __name__ == "__main__":
    main()
