"""`affinage source` and `affinage extract`: keys, counts and exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from affinage.cli import main as cli
from affinage.database.tables.index import index_run
from affinage.index.hints import record_hint
from affinage.settings import load_settings
from affinage.wiring import Affinage
from tests.support.files import make_encrypted_pdf, make_pdf
from tests.support.places import S3Place, SqlitePlace, WebPlace
from tests.support.s3 import REGION, s3_server


class Command:
    """Runs `affinage` in this process and reads its one JSON object."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.errors = ""

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        self._monkeypatch.setattr(sys, "argv", ["affinage", *arguments, "--json"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = self._capsys.readouterr()
        self.errors = captured.err
        assert stop.value.code == code, captured.out
        found: dict[str, Any] = json.loads(captured.out)
        return found


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("AFFINAGE_HOME", str(tmp_path / "home"))
    return Command(monkeypatch, capsys)


@pytest.fixture
def declared(command: Command, tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    (docs / "public").mkdir(parents=True)
    (docs / "public/a.md").write_text("# Titre\n\nTexte.")
    (docs / "public/b.png").write_bytes(b"x")
    (docs / "public/locked.pdf").write_bytes(make_encrypted_pdf())
    (docs / "closed.txt").write_text("Rien.")
    (docs / "empty.txt").write_text("")
    file = tmp_path / "d.yaml"
    file.write_text(
        "sources:\n"
        '  - {name: handbook, path: ./docs, access: [{match: "public/**", allow: [everyone]}]}\n  - {name: lost, path: ./nowhere}\n'
    )
    command("apply", "-f", str(file))
    return docs


def test_check_counts_what_can_be_read_and_by_whom(command: Command, declared: Path) -> None:
    found = command("source", "check", "handbook")
    assert {key: found[key] for key in ("documents", "readable", "denied", "unsupported")} == {
        "documents": 5,
        "readable": 2,
        "denied": 2,
        "unsupported": 1,
    }
    assert {failure["path"]: failure["reason"] for failure in found["failures"]} == {
        "empty.txt": "no_text",
        "public/b.png": "unsupported",
        "public/locked.pdf": "password",
    }


def test_check_of_a_missing_folder_fails_with_a_next_step(command: Command, declared: Path) -> None:
    assert command("source", "check", "lost", code=1)["error"]["hint"]


def test_check_of_an_undeclared_source_fails(command: Command) -> None:
    assert command("source", "check", "nope", code=1)["error"]["type"] == "UnknownObjectError"


def test_list_shows_every_source_also_when_one_cannot_be_listed(command: Command, declared: Path) -> None:
    found = command("source", "list")
    assert {source["name"]: source["documents"] for source in found["sources"]} == {"handbook": 5, "lost": 0}
    assert (found["documents"], found["readable"], found["denied"], found["unsupported"]) == (5, 4, 2, 1)
    assert "nowhere" in next(source["error"] for source in found["sources"] if source["name"] == "lost")


def test_list_with_nothing_declared_gives_zeros_and_a_hint(command: Command) -> None:
    found = command("source", "list")
    assert (found["sources"], found["documents"]) == ([], 0)
    assert "apply" in command.errors


def test_a_source_outside_the_roots_is_a_wrong_configuration(command: Command, declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFINAGE_SOURCE_ROOTS", str(declared / "public"))
    assert command("source", "check", "handbook", code=2)["error"]["type"] == "ConfigurationError"


def test_extract_prints_blocks_with_all_keys(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(make_pdf([("title", "Guide"), "Le texte du guide.", ("table", [["A", "B"], ["x", "y"]])]))
    found = command("extract", str(file))
    assert set(found) == {"title", "language", "blocks", "ocr_pages"}
    assert (found["title"], found["language"], found["ocr_pages"]) == ("Guide", "fr", [])
    assert found["blocks"][2] == {"kind": "table", "level": None, "page": 1, "text": "A | B\nx | y", "rows": [["A", "B"], ["x", "y"]]}


def test_extract_of_a_missing_file_is_wrong_usage(command: Command, tmp_path: Path) -> None:
    assert command("extract", str(tmp_path / "nope.pdf"), code=2)["error"]["hint"]


def test_extract_of_an_unsupported_file_fails_and_names_the_formats(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("x")
    assert ".pdf" in command("extract", str(tmp_path / "a.xyz"), code=1)["error"]["hint"]


@pytest.fixture
def elsewhere(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """A table, a site and a bucket, each with two documents of which one is for everyone."""
    table, site = SqlitePlace(tmp_path), WebPlace()
    monkeypatch.setenv("AFFINAGE_CONNECTION_PAGES", table.url)
    with s3_server() as url:
        bucket = S3Place(url, "docs", "handbook")
        bucket.client.create_bucket(Bucket="docs", CreateBucketConfiguration={"LocationConstraint": REGION})
        rules = [{"match": "public/**", "allow": ["everyone"]}]
        declared = []
        for place, name in ((table, "table"), (site, "site"), (bucket, "bucket")):
            place.put("public/a.md", "# Titre\n\nTexte.")
            place.put("closed.md", "")
            declared.append(place.spec(access=rules).model_copy(update={"name": name}).model_dump(mode="json"))
        file = tmp_path / "d.yaml"
        file.write_text(json.dumps({"sources": declared}))  # JSON is YAML
        command("apply", "-f", str(file))
        yield command
    site.close()


@pytest.mark.parametrize("name", ["table", "site", "bucket"])
def test_check_reads_every_kind_of_source(elsewhere: Command, name: str) -> None:
    found = elsewhere("source", "check", name)
    counts = {key: found[key] for key in ("documents", "readable", "denied", "unsupported")}
    assert counts == {"documents": 2, "readable": 1, "denied": 1, "unsupported": 0}
    assert [(failure["path"], failure["reason"]) for failure in found["failures"]] == [("closed.md", "no_text")]


def test_list_shows_where_each_source_is_and_never_a_password(elsewhere: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFINAGE_CONNECTION_PAGES", "postgresql+psycopg://me:s3cret@127.0.0.1:1/x?connect_timeout=1")
    found = elsewhere("source", "list")
    places = {source["name"]: (source["kind"], source["place"].partition(":")[0], source["documents"]) for source in found["sources"]}
    assert places == {"bucket": ("s3", "s3", 2), "site": ("web", "http", 2), "table": ("sql", "sql", 0)}
    assert "s3cret" not in json.dumps(found) + elsewhere.errors


def test_a_scope_names_a_declared_source(command: Command, declared: Path) -> None:
    made = command("key", "create", "--user", "events", "--scope", "source:handbook")
    assert made["scope"] == "source:handbook"
    assert [key["scope"] for key in command("key", "list")["keys"]] == ["source:handbook"]
    assert command("key", "create", "--user", "events", "--scope", "source:nope", code=1)["error"]["type"] == "UnknownObjectError"
    assert command("key", "create", "--user", "events", "--scope", "x:handbook", code=2)["error"]["type"] == "UsageError"


def test_only_what_was_said_to_have_changed_is_synced(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "d.yaml").write_text("sources: [{name: handbook, path: ./empty}, {name: letters, path: ./empty}]")
    command("apply", "-f", str(tmp_path / "d.yaml"))
    app = Affinage(load_settings())
    with app.database.write() as connection:
        record_hint(connection, "handbook", now=app.now())

    def runs() -> list[str]:
        with app.database.read() as connection:
            return list(connection.execute(select(index_run.c.source)).scalars())

    assert command("index", "sync", "--changed")["status"] == "complete"
    assert command("index", "sync", "--changed")["status"] == "complete"
    assert runs() == ["handbook"]
    assert command("index", "sync", "handbook", "--changed", code=2)["error"]["type"] == "UsageError"
    app.close()
