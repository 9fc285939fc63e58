"""Blobs in a folder: one machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from affinage.blobs import check_name
from affinage.errors import DependencyError, UnknownObjectError


class FolderBlobs:
    """Blobs as files below one folder; each file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: str) -> Path:
        return self._folder / check_name(name)

    def put(self, name: str, data: bytes) -> None:
        """Write to a temporary file, flush it to disk, then rename."""
        path = self._path(name)
        if path.exists():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, data)
        except OSError as error:
            raise DependencyError("blobs", f"Blob `{name}` cannot be written: {error}.", hint="Check space and rights.") from error

    def get(self, name: str) -> bytes:
        """Read the file."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError as error:
            raise UnknownObjectError("blob", name) from error

    def exists(self, name: str) -> bool:
        """Whether the file exists."""
        return self._path(name).exists()

    def delete(self, name: str) -> None:
        """Unlink the file."""
        self._path(name).unlink(missing_ok=True)


def _write_whole(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # The name is durable only once its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
