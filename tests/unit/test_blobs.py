"""Blobs appear whole or not at all."""

from pathlib import Path

import pytest

from affinage.blobs import FolderBlobs, digest_of
from affinage.errors import UnknownObjectError


def test_what_was_put_is_read_back_and_again_is_a_no_op(blobs: FolderBlobs) -> None:
    name = f"texts/{digest_of(b'hello')}"
    blobs.put(name, b"hello")
    blobs.put(name, b"hello")
    assert blobs.get(name) == b"hello"
    assert blobs.exists(name)


def test_an_absent_blob_is_named_in_the_error(blobs: FolderBlobs) -> None:
    with pytest.raises(UnknownObjectError, match="texts/none"):
        blobs.get("texts/none")


def test_no_partial_file_is_left_when_writing_fails(blobs: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinage.blobs.os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(Exception, match="disk full"):
        blobs.put("texts/a", b"x")
    assert not blobs.exists("texts/a")
    assert list((tmp_path / "blobs" / "texts").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_a_name_never_leaves_the_folder(blobs: FolderBlobs, name: str) -> None:
    with pytest.raises(ValueError, match="not a blob name"):
        blobs.put(name, b"x")
