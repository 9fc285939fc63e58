"""`affinage base` and `affinage adapter` from weights to a champion: a real (tiny) model, trainer, MLflow and engine."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affinage.cli import main as cli
from affinage.datasets.rows import SftRow
from affinage.datasets.snapshots import Snapshot, blob_name, counts_of, save_snapshot, snapshot_bytes
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.demo.damage import damage_adapter
from affinage.engines.protocols import GenerationRequest, Message
from affinage.errors import RefusedError
from affinage.registry.countersign import countersign
from affinage.registry.moves import pointer_of
from affinage.registry.variants import get_variant, stored_variant
from affinage.settings import load_settings
from affinage.wiring import Affinage
from tests.support.adapters import write_adapter
from tests.support.tiny_llama import write_tiny_llama

pytestmark = [pytest.mark.integration, pytest.mark.slow]
RECIPE = """kind = "sft"
rank = 4
alpha = 8
dropout = 0.0
last_layers = 2
target_modules = ["q_proj", "v_proj"]
learning_rate = 1e-2
schedule = "cosine"
warmup_ratio = 0.05
epochs = 1
batch = 8
micro_batch = 4
max_tokens = 200
max_grad_norm = 1.0
checkpoint_steps = 50
"""


@pytest.fixture
def affinage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs one command in this process and reads its JSON object."""
    monkeypatch.setenv("AFFINAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AFFINAGE_THREADS", "1")

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["affinage", *arguments, "--json"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr().out
        assert stop.value.code == code, out
        found: dict[str, Any] = json.loads(out)
        return found

    return run


def prepare(app: Affinage, folder: Path) -> None:
    """An assistant on the tiny base, and a snapshot of a task so simple that even random weights learn something of it."""
    (folder / "recipe.toml").write_text(RECIPE)
    tuning = {"min_examples": 100, "recipe": str(folder / "recipe.toml")}
    calls = {"name": "calls", "task": "extract", "engine": "tiny", "sources": [], "tuning": tuning, "max_output_tokens": 16}
    rows = [
        SftRow(
            example_id=f"{i:03d}",
            split="test" if i % 6 == 0 else "train",
            group=f"user-{i % 12}",
            messages=(Message("user", f"call {i}"),),
            target='{"a": "b"}',
        )
        for i in range(108)
    ]
    data = snapshot_bytes({"kind": "extraction"}, rows)
    app.blobs.put(blob_name(data), data)
    name = blob_name(data)
    snapshot = Snapshot("ds-1", "d", "default", "calls", "extraction", ("everyone",), counts_of(rows, {}), {}, {}, name, False, app.now())
    with app.database.write() as connection:
        apply_declarations(connection, parse_declarations({"assistants": [calls]}, folder=folder, origin="test"), now=app.now())
        save_snapshot(connection, snapshot, rows, user_of={})


def set_champion_by_hand(affinage, app: Affinage, *, to: dict[str, Any], back: str) -> None:
    """A recorded override, noticed at the next look."""
    app.registry.set_alias("default", "calls", "champion", to["model_version"])
    assert affinage("adapter", "follow") == {"candidates": [], "champions": [{"assistant": "calls", "variant": to["variant"]}]}
    assert affinage("adapter", "rollback", "calls")["variant"] == back
    assert affinage("adapter", "follow")["champions"] == []


def set_champion_by_hand_to_a_retired_one(affinage, app: Affinage, *, to: dict[str, Any], serves: str) -> None:
    """It is refused, and what serves goes on."""
    app.registry.set_alias("default", "calls", "champion", to["model_version"])
    assert affinage("adapter", "follow", code=3)["error"]["type"] == "RefusedError"
    with app.database.read() as connection:
        assert pointer_of(connection, "calls").variant_id == serves


def check_what_reaches_an_engine(app: Affinage, variant: str, *, weights: Path, damaged: Path) -> None:
    """The champion does, verified, countersigned and proved; an engine that holds other files does not pass."""
    with app.database.read() as connection:
        champion = get_variant(connection, variant)
    generator = app.generator("tiny", folder=weights)
    generator.unload_adapter(str(champion.adapter))
    app.load_adapter(generator, champion)
    assert generator.generate([GenerationRequest((Message("user", "call 1"),), adapter=champion.adapter, max_tokens=4)])
    generator.unload_adapter(str(champion.adapter))
    generator.load_adapter(str(champion.adapter), damaged)
    from affinage.residency.load import prove
    from affinage.tuning import golden

    with pytest.raises(RefusedError, match="not live"):
        prove(generator, golden.load(app.blobs, str(champion.adapter_digest)), adapter=str(champion.adapter))


def test_from_weights_to_a_champion_and_back(affinage, tmp_path: Path) -> None:
    weights = write_tiny_llama(tmp_path / "tiny")
    added = affinage("base", "add", str(weights))
    assert (added["base"], added["context_tokens"], len(added["digest"])) == ("tiny", 512, 64)
    assert affinage("base", "list")["bases"][0]["digest"] == added["digest"]
    app = Affinage(load_settings())
    prepare(app, tmp_path)

    trained = affinage("adapter", "train", "calls")
    assert {"adapter", "variant", "model_version", "run_id", "metrics", "seconds", "peak_rss_bytes"} <= set(trained)
    assert trained["peak_rss_bytes"] > 1024**2
    variant = trained["variant"]
    assert affinage("adapter", "verify", variant) == {
        "variant": variant, "adapter": trained["adapter"], "verified": True, "countersigned": False, "reasons": [],
    }  # fmt: skip

    with app.database.read() as connection:
        folder = app.verified_folder(stored_variant(connection, variant))
    damaged = affinage(
        "adapter", "register", str(damage_adapter(folder, tmp_path / "damaged", rng=np.random.default_rng(1))), "--assistant", "calls"
    )
    refused = affinage("adapter", "evaluate", damaged["variant"], code=3)
    assert refused["gate"] == "refused"
    assert {"control", "candidate", "difference", "interval"} <= set(refused["metrics"])
    assert refused["metrics"]["items"] == 18

    # The gate's word does not depend on this tiny model here: what follows is the same for one that passed.
    evaluated = app.evaluate_variant(variant)
    with app.database.write() as connection:
        countersign(connection, variant_id=variant, gate_id=evaluated.gate_id, now=app.now())

    moved = affinage("adapter", "promote", trained["adapter"], "--reason", "tried it", "--as", "dana")
    assert (moved["variant"], moved["previous"], moved["override"]) == (variant, None, True)
    assert app.registry.aliases("default", "calls")["champion"] == trained["model_version"]
    promoted = affinage("adapter", "promote", damaged["variant"])
    assert promoted["previous"] == variant
    back = affinage("adapter", "rollback", "calls")
    assert (back["variant"], back["version"]) == (variant, 3)
    assert app.registry.aliases("default", "calls")["champion"] == trained["model_version"]
    set_champion_by_hand(affinage, app, to=damaged, back=variant)
    assert affinage("adapter", "rollback", "calls", code=3)["error"]["type"] == "RefusedError"
    assert affinage("adapter", "retire", damaged["variant"])["changed"] is True
    assert affinage("adapter", "retire", variant, code=3)["error"]["type"] == "RefusedError"
    states = {row["variant"]: row["state"] for row in affinage("adapter", "list", "--assistant", "calls")["variants"]}
    assert states == {variant: "champion", damaged["variant"]: "retired"}
    shown = affinage("adapter", "show", variant[:10])
    assert (shown["base_digest"], shown["dataset_id"]) == (added["digest"], "ds-1")
    assert [gate["gate_id"] for gate in shown["gates"]] == [evaluated.gate_id]

    set_champion_by_hand_to_a_retired_one(affinage, app, to=damaged, serves=variant)

    check_what_reaches_an_engine(app, variant, weights=weights, damaged=tmp_path / "damaged")
    app.close()


def test_wrong_names_are_answered_with_what_to_do(affinage, tmp_path: Path) -> None:
    assert affinage("base", "add", str(tmp_path), code=2)["error"]["type"] == "UsageError"
    assert affinage("adapter", "list") == {"variants": []}
    assert affinage("base", "list") == {"bases": []}
    for arguments in (("show", "nothing"), ("evaluate", "nothing"), ("promote", "nothing"), ("train", "nothing")):
        error = affinage("adapter", *arguments, code=1)["error"]
        assert error["hint"]
    assert affinage("adapter", "rollback", "nothing", code=3)["error"]["hint"]


def test_an_alias_set_in_a_notebook_is_followed_once(affinage, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    weights = write_tiny_llama(tmp_path / "tiny")
    affinage("base", "add", str(weights))
    app = Affinage(load_settings())
    prepare(app, tmp_path)
    assert affinage("adapter", "follow") == {"candidates": [], "champions": []}

    store = f"sqlite:///{app.settings.home / 'mlflow.db'}"
    notebook = MlflowClient(tracking_uri=store, registry_uri=store)
    with contextlib.suppress(MlflowException):
        notebook.create_registered_model("affinage.default.calls")
    run = notebook.create_run(notebook.create_experiment("notebook", artifact_location=str(tmp_path / "runs")))
    notebook.log_artifacts(run.info.run_id, str(write_adapter(tmp_path / "mine")), "adapter")
    made = notebook.create_model_version("affinage.default.calls", f"runs:/{run.info.run_id}/adapter", run.info.run_id)
    notebook.set_registered_model_alias("affinage.default.calls", "candidate", made.version)

    (found,) = affinage("adapter", "follow")["candidates"]
    assert (found["assistant"], found["model_version"]) == ("calls", str(made.version))
    assert found["adapter"].startswith("calls@")
    assert affinage("adapter", "follow") == {"candidates": [], "champions": []}
    # It was taken in, not trusted: its shapes are not this base's.
    assert affinage("adapter", "verify", found["variant"], code=3)["verified"] is False
