from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.documents.sources import FolderSource
from affinage.documents.sources import folder as module
from affinage.errors import ConfigurationError, DependencyError, DocumentError

needs_rights = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def write(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)


def listed(root: Path) -> list[str]:
    return [entry.path for entry in FolderSource(root).listing()]


def reason(source: FolderSource, path: str) -> str:
    with pytest.raises(DocumentError) as caught:
        source.read(path)
    return caught.value.reason


def test_documents_are_listed_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a/c.md", "a.md", "a/b/d.md", "a0.md", "é.md", "Z.md")
    found = listed(tmp_path)
    assert found == sorted(found)
    assert set(found) == {"b.md", "a/c.md", "a.md", "a/b/d.md", "a0.md", "é.md", "Z.md"}


NAMES = st.text(alphabet="aé.-0~ ", min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..") and not name.startswith((".", "~$"))
)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12))
def test_any_tree_is_listed_whole_and_in_order(tmp_path_factory, paths: set[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    files = {path for path in paths if not any(other.startswith(f"{path}/") for other in paths)}
    write(root, *files)
    source = FolderSource(root)
    found = [entry.path for entry in source.listing()]
    assert found == sorted(files)
    assert [source.read(path).decode() for path in found] == found


def test_hidden_access_and_lock_files_are_no_documents(tmp_path: Path) -> None:
    write(tmp_path, ".git/config", ".hidden", "ACCESS.yaml", "a/ACCESS.yaml", "~$a.docx", "a/b.md")
    assert listed(tmp_path) == ["a/b.md"]


def test_no_link_is_followed_in_listing_or_reading(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.md", "root/hr/salaries.md", "root/public/a.md")
    root = tmp_path / "root"
    (root / "public/out.md").symlink_to(tmp_path / "outside/secret.md")
    (root / "public/folder").symlink_to(tmp_path / "outside")
    (root / "public/inside").symlink_to(root / "hr")
    (root / "public/loop").symlink_to(root)
    assert listed(root) == ["hr/salaries.md", "public/a.md"]
    source = FolderSource(root)
    for path in ("public/out.md", "public/folder/secret.md", "public/inside/salaries.md"):
        assert reason(source, path) == "unreadable"


@pytest.mark.parametrize("path", ["../outside.md", "a/../../outside.md", "/etc/hostname", "", "a//b", "./a.md", "a\0b"])
def test_a_path_cannot_leave_the_root(tmp_path: Path, path: str) -> None:
    write(tmp_path, "outside.md", "root/a/b.md")
    assert reason(FolderSource(tmp_path / "root"), path) == "unreadable"


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert listed(tmp_path / "link") == ["a.md"]


def test_a_named_pipe_is_no_document_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert listed(tmp_path) == []
    assert reason(FolderSource(tmp_path), "pipe.txt") == "unreadable"


def test_names_that_differ_in_unicode_form_are_two_documents(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "é.md"), unicodedata.normalize("NFD", "é.md")
    (tmp_path / composed).write_text("composé")
    (tmp_path / decomposed).write_text("décomposé")
    source = FolderSource(tmp_path)
    assert sorted(entry.path for entry in source.listing()) == sorted([composed, decomposed])
    assert (source.read(composed).decode(), source.read(decomposed).decode()) == ("composé", "décomposé")


def test_a_name_that_is_not_utf_8_is_shown_escaped_and_can_be_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("ici")
    source = FolderSource(tmp_path)
    (path,) = [entry.path for entry in source.listing()]
    assert path == "caf\\xe9.md"
    assert source.read(path) == b"ici"


def test_the_signature_changes_with_an_edit_that_keeps_size_and_time(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    before = next(FolderSource(tmp_path).listing()).signature
    (tmp_path / "a.md").write_text("b.md")
    os.utime(tmp_path / "a.md", ns=(before.mtime_ns, before.mtime_ns))
    after = next(FolderSource(tmp_path).listing()).signature
    assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
    assert after != before


def test_a_signature_is_settled_once_it_is_older_than_the_clocks_grain(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    signature = next(FolderSource(tmp_path).listing()).signature
    assert not signature.is_settled(signature.ctime_ns)
    assert signature.is_settled(signature.ctime_ns + 3_000_000_000)


def test_a_signature_is_stored_as_ledgers_hold_it(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    found = (tmp_path / "a.md").stat()
    stored = {"size": 4, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns, "inode": found.st_ino}
    assert next(FolderSource(tmp_path).listing()).signature.as_json() == stored


def test_a_file_that_changes_while_it_is_read_is_not_half_old_and_half_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.md")
    source, fstat = FolderSource(tmp_path), os.fstat

    def writing(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        (tmp_path / "a.md").write_text("longer than before")
        return status

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", writing)
        assert reason(source, "a.md") == "unreadable"
    assert source.read("a.md") == b"longer than before"


def test_a_missing_root_fails_the_listing_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DependencyError) as caught:
        listed(tmp_path / "nowhere")
    assert "nowhere" in caught.value.message
    assert caught.value.hint


def test_a_root_that_is_a_file_fails_the_listing(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    with pytest.raises(DependencyError, match="not a folder"):
        listed(tmp_path / "a.md")


@needs_rights
def test_an_unreadable_folder_fails_the_whole_listing(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "closed/b.md", "z.md")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(DependencyError, match="closed"):
            listed(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_cannot_be_scanned_fails_the_whole_listing(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path, "a.md", "closed/b.md")
    scan = os.scandir

    def failing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(module.os, "scandir", failing)
    with pytest.raises(DependencyError, match="closed"):
        listed(tmp_path)


def test_a_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    source = FolderSource(tmp_path)
    (path,) = [entry.path for entry in source.listing()]
    (tmp_path / "a.md").unlink()
    assert reason(source, path) == "unreadable"


@needs_rights
def test_a_file_without_rights_is_unreadable(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    (tmp_path / "a.md").chmod(0)
    assert reason(FolderSource(tmp_path), "a.md") == "unreadable"


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(module.MAX_BYTES + 1)
    assert reason(FolderSource(tmp_path), "a.txt") == "too_large"


def test_a_root_outside_the_allowed_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "allowed/a.md", "other/b.md")
    FolderSource(tmp_path / "allowed", roots=[tmp_path / "allowed"])
    for root in (tmp_path / "other", tmp_path / "allowed/../other", tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            FolderSource(root, roots=[tmp_path / "allowed"])
        assert caught.value.hint


def test_a_link_out_of_the_allowed_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "allowed/a.md", "other/b.md")
    (tmp_path / "allowed/link").symlink_to(tmp_path / "other")
    with pytest.raises(ConfigurationError):
        FolderSource(tmp_path / "allowed/link", roots=[tmp_path / "allowed"])
