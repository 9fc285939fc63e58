"""The tour: the whole loop, step by step, each with what it did and the figure it produced.

Called by `affinage demo`. It uses the product as its users do: declarations, flows, the gateway's HTTP, operations that the
command line calls. State stays in the home folder, so that `affinage up` shows all of it afterwards.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affinage.demo.memory import PeakMemory
from affinage.errors import ConfigurationError
from affinage.serving.prefect import FlowRun, PrefectServer, start_flow
from affinage.wiring import Affinage

MARKER = "demo.json"
# Says that this home was made by the demo, so the next demo may begin again in it.
SEED = 20261121


@dataclass
class Tour:
    """What the steps share. `facts` carries what a later step needs from an earlier one."""

    app: Affinage
    server: PrefectServer
    say: Callable[[str], None]
    own_documents: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the demo's documents and declarations lie."""
        return self.app.state / "demo"

    def flow(self, name: str, *arguments: str) -> FlowRun:
        """Start a Prefect flow of `flows/` in a process of its own, on this installation."""
        environment = {**self.server.environment, "AFFINAGE_HOME": str(self.app.state)}
        log = self.app.state / "logs" / f"flow-{name}-{'-'.join(arguments).replace('/', '_').replace('--', '')}.log"
        return start_flow(self.app.flows / f"{name}.py", arguments, log=log, environment=environment)


Step = tuple[str, str, Callable[[Tour], dict[str, Any]]]
"""Name (a key of the JSON), title for people, and what it does."""


def run(app: Affinage, *, own_documents: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Run every step and return the keys of `affinage demo --json`.

    Parameters
    ----------
    own_documents
        A folder to use instead of the invented administration's documents; it is copied, never written.
    say
        Receives one line for people at a time.
    """
    begin_again(app.state, own_documents)
    started = time.monotonic()
    steps: list[dict[str, Any]] = []
    with ExitStack() as stack:
        memory = stack.enter_context(PeakMemory())
        server = stack.enter_context(PrefectServer(app.state / "prefect"))
        tour = Tour(app, server, say, own_documents)
        for number, (name, title, step) in enumerate(_steps(), start=1):
            say(f"\n{number}. {title}")
            began = time.monotonic()
            result = step(tour)
            steps.append({"name": name, "seconds": round(time.monotonic() - began, 1), "result": result})
            for line in _lines(result):
                say(f"   {line}")
            say(f"   ({steps[-1]['seconds']} s)")
    total = round(time.monotonic() - started, 1)
    report = {"steps": steps, "seconds": total, "home": str(app.state), "peak_rss_bytes": memory.peak_bytes}
    (app.state / MARKER).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    return report


def begin_again(home: Path, own_documents: Path | None) -> None:
    """Empty a home that an earlier demo made; refuse one that holds anything else.

    Raises
    ------
    ConfigurationError
        If the home holds an installation that is not the demo's, or `own_documents` is no folder or overlaps the home.
    """
    if own_documents is not None:
        if not own_documents.is_dir():
            raise ConfigurationError(f"There is no folder {own_documents}.", hint="Give a folder of documents: `affinage demo --docs DIR`.")
        if home.is_relative_to(own_documents.resolve()):
            raise ConfigurationError(f"The state {home} lies inside {own_documents}.", hint="Set AFFINAGE_HOME to a folder outside it.")
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            raise ConfigurationError(
                f"{home} holds an installation that the demo did not make.", hint="Set AFFINAGE_HOME to an empty folder for the demo."
            )
        for entry in home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text("{}", encoding="utf-8")


def _steps() -> Iterator[Step]:
    from affinage.demo.steps import documents, evidence, learning, people  # noqa: PLC0415  heavy below

    yield "corpus", "An administration's documents, with rights", documents.corpus
    yield "index", "Index them (a Prefect flow)", documents.index
    yield "unchanged", "Index again: nothing changed", documents.unchanged
    yield "changes", "Edit a paragraph, rename, change rights, delete", documents.changes
    yield "rights", "Two users ask the same question", documents.rights
    yield "gateway", "Ask and rate through the gateway, as any OpenAI client does", people.gateway
    yield "calls", "Agents turn calls into JSON with the bare small model, and correct it", people.calls
    yield "tune_extraction", "Their corrections become rows, on which an adapter trains (a Prefect flow)", learning.tune_extraction
    yield "questions", "Meanwhile other agents ask, rate and correct", people.questions
    yield "tune_embedding", "Their judgements become rows, on which a second adapter trains (a Prefect flow)", learning.tune_embedding
    yield "tune", "Both adapters are tuned and registered", learning.tune
    yield "gate", "The gate: held-out rows decide (a Prefect flow)", learning.gate
    yield "reindex", "A better embedding serves from a new index generation", learning.reindex
    yield "experiment", "A/B until the evidence decides", evidence.experiment
    yield "explain", "From an answer back to the feedback that trained it", evidence.explain


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, Mapping) and any(isinstance(inner, (Mapping, list)) for inner in value.values()):
            yield f"{prefix}{key}:"
            yield from _lines(value, prefix + "  ")
        elif isinstance(value, Mapping):
            yield f"{prefix}{key}: " + ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
        elif value != []:
            yield f"{prefix}{key}: {_short(value)}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    return str(value)
