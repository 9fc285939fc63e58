"""What the demo declares is what the product accepts, and the rights are those of the folders."""

from __future__ import annotations

from pathlib import Path

from affinage.declarations.model import load_declarations, parse_declarations
from affinage.demo.corpus import demo_subjects
from affinage.demo.declarations import change_rights, declarations, write_declarations
from affinage.identity.access import allowed


def test_the_declarations_are_accepted_and_survive_yaml(tmp_path: Path) -> None:
    declared = declarations(tmp_path / "documents")
    write_declarations(declared, tmp_path / "affinage.yaml")
    loaded = load_declarations(tmp_path / "affinage.yaml")
    assert loaded == parse_declarations(declared, folder=tmp_path, origin="test")
    assert [(assistant.name, assistant.task, assistant.tuning.min_examples) for assistant in loaded.assistants] == [
        ("guichet", "answer", 100),
        ("appels", "extract", 100),
    ]


def test_each_folder_is_read_by_its_own_people_and_nothing_else_by_anybody(tmp_path: Path) -> None:
    rules = parse_declarations(declarations(tmp_path), folder=tmp_path, origin="test").sources[0].rules()
    for subject in demo_subjects():
        top = subject.folder.split("/")[0]
        expected = {"public": "everyone", "personnel": f"user:{subject.person}"}.get(top, f"group:{top}")
        assert {allowed(rules, document.path) for document in subject.documents} == {(expected,)}
    assert allowed(rules, "brouillons/note.md") == ()


def test_the_change_of_rights_opens_one_folder_and_leaves_the_first_declaration_alone(tmp_path: Path) -> None:
    before = declarations(tmp_path)
    after = change_rights(before)
    assert before == declarations(tmp_path)
    rules = [parse_declarations(raw, folder=tmp_path, origin="test").sources[0].rules() for raw in (before, after)]
    assert [allowed(each, "urbanisme/infractions.html") for each in rules] == [("group:urbanisme",), ("group:accueil", "group:urbanisme")]
    assert [allowed(each, "rh/carriere/mobilite.md") for each in rules] == [("group:rh",), ("group:rh",)]
