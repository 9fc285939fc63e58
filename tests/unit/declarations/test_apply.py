"""Applying a declaration: idempotent, checked, and rights count at once."""

from pathlib import Path

import pytest
from sqlalchemy import insert, select

from affinage.database.engine import Database
from affinage.database.tables.index import document
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import Declarations, load_declarations, parse_declarations
from affinage.declarations.repository import get_assistant, list_assistants, list_sources
from affinage.errors import ConfigurationError, UnknownObjectError
from tests.conftest import Clock


def declared(folder: Path, *, allow: str = "everyone", assistants: bool = True) -> Declarations:
    raw: dict[str, object] = {"sources": [{"name": "handbook", "path": "docs", "access": [{"match": "**", "allow": [allow]}]}]}
    if assistants:
        raw["assistants"] = [{"name": "desk", "sources": ["handbook"]}]
    return parse_declarations(raw, folder=folder, origin="test")


def test_applying_twice_changes_nothing(database: Database, clock: Clock, tmp_path: Path) -> None:
    with database.write() as connection:
        first = apply_declarations(connection, declared(tmp_path), now=clock())
        second = apply_declarations(connection, declared(tmp_path), now=clock())
        assert get_assistant(connection, "desk").sources == ("handbook",)
    assert first.created == ["source/handbook", "assistant/desk"]
    assert (second.created, second.changed, second.removed) == ([], [], [])
    assert second.unchanged == ["source/handbook", "assistant/desk"]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "affinage.yaml"
    file.write_text("sources: [{name: handbook, path: docs}]")
    assert load_declarations(file).sources[0].path == tmp_path / "docs"


def test_a_narrowed_right_reaches_known_documents_without_a_sync(database: Database, clock: Clock, tmp_path: Path) -> None:
    with database.write() as connection:
        apply_declarations(connection, declared(tmp_path), now=clock())
        connection.execute(
            insert(document).values(doc_key="k", source="handbook", path="a.md", allow=["everyone"], state="indexed", updated_at=clock())
        )
        report = apply_declarations(connection, declared(tmp_path, allow="group:hr"), now=clock())
        assert connection.execute(select(document.c.allow)).scalar_one() == ["group:hr"]
    assert report.changed == ["source/handbook"]


TABLE = {"name": "pages", "kind": "sql", "connection": "db", "query": "SELECT 1", "columns": {"key": "id", "text": "t", "rights": "r"}}


def labels_after(database: Database, clock: Clock, *steps: dict[str, object], stored: list[str]) -> list[list[str]]:
    """The label of the document `stored` was written for, after each further declaration of its source."""
    found = []
    with database.write() as connection:
        for number, step in enumerate(steps):
            apply_declarations(connection, parse_declarations({"sources": [step]}, folder=Path("/"), origin="test"), now=clock())
            if number == 0:
                values = {
                    "doc_key": "k",
                    "source": step["name"],
                    "path": "a.md",
                    "allow": stored,
                    "state": "indexed",
                    "updated_at": clock(),
                }
                connection.execute(insert(document).values(values))
            found.append(connection.execute(select(document.c.allow)).scalar_one())
    return found[1:]


def test_a_rule_never_widens_what_a_row_says_of_its_readers_before_the_next_sync(database: Database, clock: Clock) -> None:
    def rule(*allow: str) -> dict[str, object]:
        return {**TABLE, "access": [{"match": "**", "allow": list(allow)}]}

    steps = (rule("group:a", "group:b"), rule("group:b", "group:c"), rule("everyone"), rule("group:c"))
    assert labels_after(database, clock, *steps, stored=["group:a", "group:b"]) == [["group:b"], ["group:b"], []]


def test_rules_that_were_taken_away_open_nothing_until_the_place_was_asked(database: Database, clock: Clock) -> None:
    ruled = {**TABLE, "access": [{"match": "**", "allow": ["everyone"]}]}
    steps = (ruled, {**TABLE, "access": "from_column"}, ruled)
    assert labels_after(database, clock, *steps, stored=["everyone"]) == [[], []]
    # Only a change of `access` closes: a new schedule leaves what the last sync read.


def test_another_schedule_leaves_what_the_place_said(database: Database, clock: Clock) -> None:
    asked = {**TABLE, "access": "from_column"}
    assert labels_after(database, clock, asked, {**asked, "schedule": "0 * * * *"}, stored=["group:hr"]) == [["group:hr"]]


def test_an_accent_written_in_another_form_falls_under_the_same_rule_at_once(database: Database, clock: Clock) -> None:
    rules = [{"match": "e\u0301/**", "allow": ["group:hr"]}, {"match": "**", "allow": ["everyone"]}]
    with database.write() as connection:
        apply_declarations(connection, declared(Path("/")), now=clock())
        values = {"doc_key": "k", "source": "handbook", "path": "\u00e9/a.md", "allow": [], "state": "indexed", "updated_at": clock()}
        connection.execute(insert(document).values(values))
        changed = parse_declarations({"sources": [{"name": "handbook", "path": "docs", "access": rules}]}, folder=Path("/"), origin="test")
        apply_declarations(connection, changed, now=clock())
        assert connection.execute(select(document.c.allow)).scalar_one() == ["group:hr"]


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ({"name": "a", "kind": "ftp"}, "sources.0` is wrong: `kind` is folder, s3, sql or web"),
        ({"name": "a", "kind": ["web"]}, "sources.0` is wrong: `kind` is folder, s3, sql or web"),
        ({"name": "a", "kind": "s3", "bucket": "B"}, r"sources.0.bucket"),
        ({"name": "a", "kind": "s3", "bucket": "docs", "access": "from_tags"}, "rights_tag"),
        ({"name": "a", "kind": "web", "url": "https://example.org", "access": "from_files"}, "sources.0.access"),
        ({"name": "a", "kind": "web", "url": "https://example.org", "path": "x"}, "sources.0.path. is not a known key"),
        ({"name": "a", "path": "x", "bucket": "docs"}, "sources.0.bucket. is not a known key"),
    ],
)
def test_what_a_kind_does_not_know_is_named_in_place(tmp_path: Path, source: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigurationError, match=where):
        parse_declarations({"sources": [source]}, folder=tmp_path, origin="test")


def test_every_kind_is_stored_and_read_back_as_it_was_declared(database: Database, clock: Clock, tmp_path: Path) -> None:
    web = {"name": "site", "kind": "web", "url": "https://example.org/", "exclude": ["search**"]}
    bucket = {"name": "bucket", "kind": "s3", "bucket": "docs", "prefix": "/published"}
    kinds = [{"name": "folder", "path": "docs"}, bucket, {**TABLE}, web]
    given = parse_declarations({"sources": kinds}, folder=tmp_path, origin="test")
    with database.write() as connection:
        apply_declarations(connection, given, now=clock())
        assert {spec.name: spec for spec in list_sources(connection)} == {spec.name: spec for spec in given.sources}
        again = apply_declarations(connection, given, now=clock())
    assert len(again.unchanged) == 4
    assert [spec.place for spec in given.sources] == [str(tmp_path / "docs"), "s3://docs/published/", "sql:db", "https://example.org/"]


def test_nothing_is_removed_without_prune_and_a_pruned_source_is_read_by_nobody(database: Database, clock: Clock, tmp_path: Path) -> None:
    with database.write() as connection:
        apply_declarations(connection, declared(tmp_path), now=clock())
        connection.execute(
            insert(document).values(doc_key="k", source="handbook", path="a.md", allow=["everyone"], state="indexed", updated_at=clock())
        )
        assert apply_declarations(connection, Declarations(), now=clock()).removed == []
        report = apply_declarations(connection, Declarations(), now=clock(), prune=True)
        assert report.removed == ["assistant/desk", "source/handbook"]
        assert (list_sources(connection), list_assistants(connection)) == ([], [])
        assert connection.execute(select(document.c.allow)).scalar_one() == []
        again = apply_declarations(connection, declared(tmp_path), now=clock())
        assert again.created == ["source/handbook", "assistant/desk"]
        assert connection.execute(select(document.c.allow)).scalar_one() == ["everyone"]


def test_an_assistant_without_its_source_is_refused_and_nothing_is_written(database: Database, clock: Clock, tmp_path: Path) -> None:
    alone = parse_declarations({"assistants": [{"name": "desk", "sources": ["gone"]}]}, folder=tmp_path, origin="test")
    with pytest.raises(ConfigurationError, match="`gone`"), database.write() as connection:
        apply_declarations(connection, alone, now=clock())
    with database.read() as connection, pytest.raises(UnknownObjectError):
        get_assistant(connection, "desk")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("assistants: [{name: a, sources: [], colour: red}]", "colour. is not a known key"),
        ("sources: [{name: A!, path: x}]", "sources.0.name"),
        ("sources: [{name: a, path: x}, {name: a, path: y}]", "declared twice"),
        ("sources: [{name: a, path: x, access: [{match: '**', allow: [bob]}]}]", "allow"),
        ("assistants: [{name: a, sources: [], rollout: {shares: [0.5, 0.1]}}]", "must not fall"),
        ("- a\n- b", "must hold a mapping"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_declaration_names_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "affinage.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_declarations(file)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no file"):
        load_declarations(tmp_path / "none.yaml")
