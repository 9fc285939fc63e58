"""Exit codes, JSON and help: the same for every verb."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def affinage(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    import os

    env = {**os.environ, "AFFINAGE_HOME": str(home), **environment}
    return subprocess.run([sys.executable, "-m", "affinage.cli", *arguments], capture_output=True, text=True, env=env, check=False)


def answer(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Standard output holds exactly one JSON object."""
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_a_key_is_made_used_and_revoked(tmp_path: Path) -> None:
    made = answer(affinage(tmp_path, "key", "create", "--user", "alice", "--json"))
    assert made["key"].startswith("aff_")
    assert affinage(tmp_path, "key", "revoke", made["key_id"]).returncode == 0
    listed = answer(affinage(tmp_path, "key", "list", "--json"))["keys"]
    assert [(key["user"], bool(key["revoked_at"])) for key in listed] == [("alice", True)]
    assert made["key"] not in json.dumps(listed)


def test_wrong_usage_exits_2_and_says_so_in_json(tmp_path: Path) -> None:
    run = affinage(tmp_path, "key", "create", "--json")
    assert run.returncode == 2
    assert answer(run)["error"]["type"] == "UsageError"
    assert "--user" in answer(run)["error"]["message"]


def test_a_failure_exits_1_with_message_and_hint(tmp_path: Path) -> None:
    run = affinage(tmp_path, "key", "revoke", "nope", "--json")
    assert run.returncode == 1
    assert set(answer(run)["error"]) == {"type", "message", "hint"}


def test_an_unknown_setting_exits_2_and_names_it(tmp_path: Path) -> None:
    run = affinage(tmp_path, "key", "list", AFFINAGE_HOLA="1")
    assert run.returncode == 2
    assert "AFFINAGE_HOLA" in run.stderr
    assert run.stdout == ""


def test_apply_with_dry_run_prints_the_change_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    file = tmp_path / "affinage.yaml"
    file.write_text("sources: [{name: handbook, path: docs}]\nassistants: [{name: desk, sources: [handbook]}]\n")
    dry = answer(affinage(tmp_path, "apply", "-f", str(file), "--dry-run", "--json"))
    wet = answer(affinage(tmp_path, "apply", "-f", str(file), "--json"))
    assert dry["created"] == wet["created"] == ["source/handbook", "assistant/desk"]


def _verbs() -> list[tuple[str, ...]]:
    from affinage.cli.main import app

    found: list[tuple[str, ...]] = [(c.name or c.callback.__name__,) for c in app.registered_commands]  # type: ignore[union-attr]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands = group.typer_instance.registered_commands
        found += [(str(group.name), c.name or c.callback.__name__.replace("_", "-")) for c in commands]  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("verb", _verbs(), ids=" ".join)
def test_each_verb_has_help_with_an_example(verb: tuple[str, ...]) -> None:
    from typer.testing import CliRunner

    from affinage.cli.main import app

    shown = CliRunner().invoke(app, [*verb, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert "--json" in shown.output or verb[0] in {"up", "serve"}
