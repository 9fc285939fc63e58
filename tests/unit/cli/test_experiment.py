"""`affinage experiment`: keys, exit codes, and the loop from start to promotion through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from affinage.answers.variant import Variant
from affinage.cli import main as cli
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.registry.moves import move_champion
from affinage.registry.variants import save_variant
from affinage.settings import load_settings
from affinage.wiring import Affinage

STATUS_KEYS = {"state", "arms", "tests", "decision"}
ARM_KEYS = {"name", "variant", "adapter", "share", "exposures", "rated", "up"}
TEST_KEYS = {"name", "log_e", "threshold", "p"}
SIMULATION_KEYS = {"runs", "promoted", "rolled_back", "false_positive_rate", "median_rated", "seconds"}


class Command:
    """Runs `affinage experiment` in this process and reads its one JSON object."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        self._monkeypatch.setattr(sys, "argv", ["affinage", "experiment", *arguments, "--json"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = self._capsys.readouterr().out
        assert stop.value.code == code, out
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("AFFINAGE_HOME", str(tmp_path / "home"))
    return Command(monkeypatch, capsys)


@pytest.fixture
def candidate(command: Command, tmp_path: Path) -> str:
    """A declared assistant with a champion; returns the variant that is to challenge it."""
    app = Affinage(load_settings())
    raw = {"assistants": [{"name": "appels", "sources": [], "rollout": {"shares": [0.5], "min_units": 0, "min_days": 0}}]}
    variants = [Variant("appels", "extractive", None, None, None, prompt) for prompt in ("one", "two")]
    with app.database.write() as connection:
        apply_declarations(connection, parse_declarations(raw, folder=tmp_path, origin="test"), now=app.now(), prune=False)
        for variant in variants:
            save_variant(connection, variant, organisation="default", now=app.now())
        move_champion(
            connection, assistant="appels", to=variants[0].variant_id, actor="test", reason="first", now=app.now(), new_id=app.new_id
        )
    app.close()
    return variants[1].variant_id


def test_an_experiment_is_started_shown_looked_at_and_stopped(command: Command, candidate: str) -> None:
    started = command("start", "appels", "--candidate", candidate[:8], "--name", "tone-2")
    assert started.keys() >= STATUS_KEYS
    assert [arm.keys() for arm in started["arms"]] == [ARM_KEYS, ARM_KEYS]
    assert all(test.keys() >= TEST_KEYS for test in started["tests"])
    assert [(arm["name"], arm["share"]) for arm in started["arms"]] == [("control", 0.5), ("candidate", 0.5)]
    assert command("status", "tone-2")["state"] == command("status", "appels")["state"] == "CANARY"
    looked = command("evaluate", "tone-2")
    assert (looked["state"], looked["decision"]) == ("PAUSED", "continue")
    stopped = command("stop", "appels")
    assert (stopped["state"], [arm["share"] for arm in stopped["arms"]]) == ("ABORTED", [1.0, 0.0])
    assert command("stop", "appels")["state"] == "ABORTED"


def test_a_second_start_is_an_error_that_names_the_first(command: Command, candidate: str) -> None:
    command("start", "appels", "--candidate", candidate)
    again = command("start", "appels", "--candidate", candidate, code=1)
    assert "appels-1" in again["error"]["message"]


def test_a_champion_against_itself_is_refused(command: Command, candidate: str) -> None:
    command("start", "appels", "--candidate", candidate)
    champion = command("status", "appels")["arms"][0]["variant"]
    command("stop", "appels")
    assert command("start", "appels", "--candidate", champion, code=3)["error"]["type"] == "RefusedError"


def test_a_name_is_needed_only_where_several_run(command: Command, candidate: str) -> None:
    assert command("status", code=1)["error"]["message"] == "There is no experiment yet."
    command("start", "appels", "--candidate", candidate)
    assert command("status")["experiment"] == "appels-1"
    assert command("stop")["state"] == "ABORTED"
    assert command("status")["state"] == "ABORTED"


@pytest.mark.parametrize("verb", ["status", "stop", "evaluate"])
def test_an_unknown_experiment_is_an_error(command: Command, verb: str) -> None:
    assert command(verb, "nothing", code=1)["error"]["type"] == "UnknownObjectError"


@pytest.mark.parametrize(
    ("layer", "experiment", "unit", "u"),
    [(None, "tone-2", "alice", 0.7886693895490572), ("layer-b", "exp-é", "u/1", 0.4152956893281671)],
)
def test_an_undeclared_experiment_gives_the_position_and_control(
    command: Command, layer: str | None, experiment: str, unit: str, u: float
) -> None:
    layers = ["--layer", layer] if layer else []
    found = command("assign", "--experiment", experiment, "--unit", unit, *layers)
    assert (found["u"], found["arm"], found["q"]) == (u, "control", 0)


def test_a_running_experiment_gives_arm_and_share(command: Command, candidate: str) -> None:
    command("start", "appels", "--candidate", candidate, "--name", "tone-2")
    # u of agent-7 is 0.213, of alice 0.789: below and above one half.
    for unit, arm in (("agent-7", "candidate"), ("alice", "control")):
        found = command("assign", "--experiment", "tone-2", "--unit", unit)
        assert (found["arm"], found["q"]) == (arm, 0.5)
    assert command("assign", "--experiment", "tone-2", "--unit", "a", "--layer", "other", code=2)["error"]["type"] == "UsageError"
    # The assistant's name is no experiment.
    assert command("assign", "--experiment", "appels", "--unit", "agent-7")["q"] == 0


def written(folder: Path, *lines: object) -> str:
    file = folder / "events.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return str(file)


def line(seq: int, **change: object) -> dict[str, object]:
    return {"seq": seq, "unit": f"u{seq}", "arm": "candidate", "q": 0.5, "kind": "rating", "value": 1, **change}


def test_a_log_is_replayed_in_the_order_of_its_numbers(command: Command, tmp_path: Path) -> None:
    events = [line(i) if i % 2 else line(i, arm="control", value=0) for i in range(1, 101)]
    found = command("replay", "--events", written(tmp_path, *reversed(events)))
    assert found.keys() >= {"decision", "decided_at", "tests"}
    assert found["decision"] == "promote"
    assert found == command("replay", "--events", written(tmp_path, *events))


def test_a_configuration_is_read_for_the_replay(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("max_units: 2\n", encoding="utf-8")
    events = written(tmp_path, line(1), line(2), line(3))
    assert command("replay", "--events", events, "--config", str(config))["decision"] == "keep"
    config.write_text("alpha: 2\n", encoding="utf-8")
    assert command("replay", "--events", events, "--config", str(config), code=2)["error"]["type"] == "ConfigurationError"


def test_a_damaged_log_names_the_line(command: Command, tmp_path: Path) -> None:
    error = command("replay", "--events", written(tmp_path, line(1), "{broken"), code=2)["error"]
    assert "line 2" in error["message"]


def test_an_empty_log_decides_nothing(command: Command, tmp_path: Path) -> None:
    found = command("replay", "--events", written(tmp_path))
    assert (found["decision"], found["decided_at"]) == ("continue", None)


def test_a_missing_log_is_wrong_usage(command: Command, tmp_path: Path) -> None:
    assert command("replay", "--events", str(tmp_path / "none.jsonl"), code=2)["error"]["type"] == "UsageError"


def test_a_simulation_prints_its_figures(command: Command) -> None:
    found = command("simulate", "--scenario", "drift with ramp", "--runs", "20", "--seed", "3", "--ratings", "100")
    assert found.keys() >= SIMULATION_KEYS
    again = command("simulate", "--scenario", "drift-with-ramp", "--runs", "20", "--seed", "3", "--ratings", "100")
    assert {**found, "seconds": 0} == {**again, "seconds": 0}


def test_an_unknown_scenario_is_wrong_usage(command: Command) -> None:
    assert command("simulate", "--scenario", "weather", "--runs", "1", "--seed", "1", code=2)["error"]["type"] == "UsageError"


def test_nothing_heavy_is_imported(command: Command) -> None:
    import subprocess

    script = (
        "import sys; sys.argv=['affinage','experiment','simulate','--scenario','constant','--runs','2','--seed','1','--ratings','9']\n"
        "from affinage.cli import main\n"
        "try: main.main()\n"
        "except SystemExit: pass\n"
        "sys.exit(sorted({'mlflow','lancedb','torch','prefect','scipy','pandas','onnxruntime'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
