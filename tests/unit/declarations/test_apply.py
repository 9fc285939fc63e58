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
