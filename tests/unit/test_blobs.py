"""A blob of the folder appears whole or not at all."""

from pathlib import Path

import pytest

from affinage.blobs.folder import FolderBlobs


def test_no_partial_file_is_left_when_writing_fails(blobs: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinage.blobs.folder.os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(Exception, match="disk full"):
        blobs.put("texts/a", b"x")
    assert not blobs.exists("texts/a")
    assert list((tmp_path / "blobs" / "texts").iterdir()) == []
