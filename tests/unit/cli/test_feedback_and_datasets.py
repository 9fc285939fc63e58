"""feedback, dataset, explain, forget and user, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import select
from typer.testing import CliRunner

from affinage.cli.main import app
from affinage.database.engine import Database
from affinage.database.tables.answers import answer
from affinage.errors import AffinageError
from tests.support.answers import declare, record
from tests.support.loop import CALLS


class Command:
    """The command in this process: a new one for each verb would take a second each."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __call__(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(app, [*arguments, "--json"], standalone_mode=False)
        if isinstance(result.exception, AffinageError):
            return result.exception.exit_code, {}
        if isinstance(result.exception, typer.Exit):
            return result.exception.exit_code, json.loads(result.stdout)
        if result.exception is not None:
            raise result.exception
        return (result.return_value if isinstance(result.return_value, int) else 0), json.loads(result.stdout)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    monkeypatch.setenv("AFFINAGE_HOME", str(tmp_path))
    database = Database(f"sqlite:///{tmp_path / 'affinage.db'}")
    database.migrate()
    with database.write() as connection:
        declare(connection, CALLS)
        for agent in range(24):
            for number in range(9):
                words = " ".join(f"a{agent}n{number}w{word}" for word in range(8))
                record(connection, f"c-{agent}-{number}", user=f"agent{agent}", assistant="calls", question=words)
    yield Command(database)
    database.close()


def right(agent: int, number: int) -> str:
    return json.dumps({"product": f"box {agent} {number}", "reason": "late", "reference": None})


def correct_all(command: Command, tmp_path: Path) -> None:
    """All corrections at once, as an export of another installation would bring them."""
    file = tmp_path / "in.jsonl"
    rows = (
        {
            "feedback_id": f"f-{agent}-{number}",
            "answer_id": f"c-{agent}-{number}",
            "user": f"agent{agent}",
            "correction": right(agent, number),
        }
        for agent in range(24)
        for number in range(9)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command("feedback", "import", str(file)) == (0, {"imported": 216, "duplicates": 0, "rejected": {}, "rejects": None})


def test_feedback_is_added_listed_and_exported_with_its_keys(command: Command, tmp_path: Path) -> None:
    code, added = command(
        "feedback", "add", "c-1-1", "--as", "agent1", "--rating", "down", "--reason", "incorrect", "--correction", right(1, 1)
    )
    assert (code, added["created"]) == (0, True)
    code, listed = command("feedback", "list", "--assistant", "calls")
    keys = {"feedback_id", "answer_id", "user", "rating", "reasons", "comment", "correction", "preferred_over", "at"}
    assert keys <= set(listed["feedback"][0])
    out = tmp_path / "out.jsonl"
    assert command("feedback", "export", "--out", str(out))[1]["exported"] == 1
    assert json.loads(out.read_text()) == listed["feedback"][0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("c-1-1", "--as", "agent2", "--up"), 1),
        (("nothing", "--as", "agent1", "--up"), 1),
        (("c-1-1", "--as", "agent1"), 2),
        (("c-1-1", "--as", "agent1", "--up", "--down"), 2),
        (("c-1-1", "--as", "agent1", "--rating", "meh"), 2),
        (("c-1-1", "--as", "agent1", "--down", "--reason", "rude"), 2),
        (("c-1-1", "--as", "agent1", "--spans", "{"), 2),
    ],
)
def test_feedback_that_cannot_be_stored_has_its_exit_code(command: Command, arguments: tuple[str, ...], code: int) -> None:
    assert command("feedback", "add", *arguments)[0] == code
    assert command("feedback", "list")[1] == {"feedback": []}


def test_rejected_rows_lie_beside_the_file(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"hello": "\\ud800"}\nnot json\n')
    code, report = command("feedback", "import", str(file))
    assert (code, report["rejected"]) == (0, {"not_json": 1, "unknown_shape": 1})
    rejects = [json.loads(line) for line in Path(report["rejects"]).read_text().splitlines()]
    assert [(line["line"], line["reason"], line["row"]) for line in rejects] == [
        (1, "unknown_shape", {"hello": "\ud800"}),
        (2, "not_json", "not json"),
    ]


def test_a_refused_dataset_exits_3_with_its_normal_keys(command: Command) -> None:
    code, refused = command("dataset", "build", "calls", "--kind", "extraction")
    assert code == 3
    assert {"dataset_id", "digest", "kind", "counts", "rejected"} <= set(refused)
    assert refused["counts"] == {"train": 0, "validation": 0, "test": 0, "rejected": 0}
    assert "100 are missing" in refused["message"]


def test_from_feedback_to_dataset_to_explanation_to_oblivion(command: Command, tmp_path: Path) -> None:
    correct_all(command, tmp_path)
    code, built = command("dataset", "build", "calls", "--kind", "extraction")
    assert code == 0
    assert built["counts"] == {"train": 144, "validation": 9, "test": 63, "rejected": 0}
    assert command("dataset", "show", built["dataset_id"])[1]["digest"] == built["digest"]
    assert [row["dataset_id"] for row in command("dataset", "show")[1]["datasets"]] == [built["dataset_id"]]
    assert command("dataset", "diff", built["dataset_id"], built["dataset_id"])[1]["unchanged"] == 216
    out = tmp_path / "rows.jsonl"
    assert command("dataset", "export", built["dataset_id"], "--out", str(out), "--format", "chat")[1]["rows"] == 153
    assert command("dataset", "build", "calls", "--kind", "sideways")[0] == 2

    explained = command("explain", "c-3-3", "--as", "agent3")[1]
    assert {"question", "passages", "prompt_digest", "generation", "variant", "adapter", "arm", "q"} <= set(explained)
    assert {"guardrails", "tokens", "seconds", "lineage"} <= set(explained)
    assert command("explain", "c-3-3", "--as", "agent4")[0] == 1

    assert len(command("user", "export", "--user", "agent3")[1]["interactions"]) == 9
    dry = command("forget", "--user", "agent3", "--dry-run")[1]
    expected = {"interactions": 9, "feedback": 9, "dataset_rows": 9, "tainted_snapshots": [built["dataset_id"]], "tainted_adapters": []}
    assert dry == expected
    assert command("forget", "--user", "agent3")[1] == expected
    with command.database.read() as connection:
        assert connection.execute(select(answer).where(answer.c.user_name == "agent3")).first() is None
    assert command("dataset", "export", built["dataset_id"], "--out", str(out))[0] == 3


def test_an_audience_must_be_principals(command: Command) -> None:
    assert command("dataset", "build", "calls", "--kind", "extraction", "--audience", "hr")[0] == 2
