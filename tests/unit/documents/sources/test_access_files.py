from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from affinage.declarations.model import FolderSpec
from affinage.documents.sources import Listed, Places, allow_of
from affinage.documents.sources.folder import FileSignature

ALL = '- {match: "**", allow: [everyone]}'
HR = '- {match: "**", allow: ["group:hr"]}'


def rights(source: Path, /, **files: str):
    for folder, text in files.items():
        place = source if folder == "root" else source / folder.replace("__", "/")
        place.mkdir(parents=True, exist_ok=True)
        (place / "ACCESS.yaml").write_text(text)
    return rights_of(FolderSpec(name="s", path=source, access="from_files"))


def rights_of(spec: FolderSpec):
    allow = allow_of(spec, Places().open(spec))
    return lambda path: allow(Listed(path, FileSignature(0, 0, 0, 0)))


def test_the_file_in_the_nearest_folder_decides_alone(tmp_path: Path) -> None:
    allow = rights(tmp_path, root=ALL, hr=HR, hr__open='- {match: "*.md", allow: ["user:dana", everyone]}')
    assert allow("a.md") == ("everyone",)
    assert allow("x/y/a.md") == ("everyone",)
    assert allow("hr/deep/a.md") == ("group:hr",)
    assert allow("hr/open/a.md") == ("everyone", "user:dana")
    assert allow("hr/open/a.pdf") == ()


def test_without_any_file_nobody_may_read(tmp_path: Path) -> None:
    assert rights(tmp_path)("a/b.md") == ()


def test_the_first_matching_rule_wins_also_when_it_allows_nobody(tmp_path: Path) -> None:
    allow = rights(tmp_path, root='- {match: "secret/**", allow: []}\n' + ALL)
    assert allow("secret/a.md") == ()
    assert allow("a.md") == ("everyone",)


def test_globs_are_paths_from_the_source_or_from_the_folder(tmp_path: Path) -> None:
    allow = rights(tmp_path, hr='- {match: "hr/*.md", allow: ["group:a"]}\n- {match: "*.pdf", allow: ["group:b"]}')
    assert allow("hr/x.md") == ("group:a",)
    assert allow("hr/x.pdf") == ("group:b",)


@pytest.mark.parametrize(
    "text",
    [
        "- {match: '**'}",
        "- {match: '**', allow: everyone}",
        "- {match: '**', allow: [hr]}",
        "- {match: '**', allow: [everyone], deny: [x]}",
        "a: [unclosed",
        "just text",
        "{match: '**', allow: [everyone]}",
        "[" * 5000,
        "",
        "- 1",
    ],
)
def test_a_file_that_is_not_understood_allows_nobody_and_its_parents_do_not_help(tmp_path: Path, text: str) -> None:
    allow = rights(tmp_path, root=ALL, hr=text)
    assert allow("hr/a.md") == ()
    assert allow("hr/deep/a.md") == ()
    assert allow("a.md") == ("everyone",)


def test_a_file_that_cannot_be_read_allows_nobody(tmp_path: Path) -> None:
    allow = rights(tmp_path, root=ALL)
    (tmp_path / "hr" / "ACCESS.yaml").mkdir(parents=True)
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "ACCESS.yaml").write_bytes(b"\xff\xfe\x00")
    assert allow("hr/a.md") == ()
    assert allow("binary/a.md") == ()


def test_a_link_is_not_followed_to_its_rights(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text(ALL)
    (tmp_path / "s" / "hr").mkdir(parents=True)
    (tmp_path / "s" / "hr" / "ACCESS.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    assert rights(tmp_path / "s")("hr/a.md") == ()


def test_declared_rules_do_not_read_files(tmp_path: Path) -> None:
    (tmp_path / "ACCESS.yaml").write_text(ALL)
    spec = FolderSpec(name="s", path=tmp_path, access=({"match": "hr/**", "allow": ["group:hr"]},))
    allow = rights_of(spec)
    assert (allow("hr/a.md"), allow("a.md")) == (("group:hr",), ())


def test_an_accent_written_in_another_form_falls_under_the_same_rule(tmp_path: Path) -> None:
    rules = ({"match": "privé/**", "allow": ["group:hr"]}, {"match": "**", "allow": ["everyone"]})
    spec = FolderSpec(name="s", path=tmp_path, access=rules)
    allow = rights_of(spec)
    assert allow(unicodedata.normalize("NFD", "privé/a.md")) == ("group:hr",)
