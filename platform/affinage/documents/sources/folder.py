"""Documents in a folder.

Hidden files, `ACCESS.yaml` and what is not a regular file are no documents. Below the root no symbolic link is
followed: a link would let whoever may write in one folder publish another one under that folder's rights. Names are
kept as the disk has them, so two names that differ in Unicode form only are two documents.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from affinage.documents.extraction.dispatch import too_large
from affinage.documents.extraction.limits import MAX_BYTES
from affinage.documents.sources.listed import Listed, Signature, is_before
from affinage.errors import ConfigurationError, DependencyError, DocumentError

ACCESS_FILE = "ACCESS.yaml"
_LOCK_PREFIX = "~$"
# Word's mark beside an open document.
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a named pipe must not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class FileSignature:
    """A file's size, times and inode.

    The change time is part of it because copying tools restore the modification time, and nothing restores that one.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def as_json(self) -> dict[str, int]:
        """For a JSON column."""
        # A copy of plain numbers: `asdict` took a third of a run in which nothing changed.
        return dict(vars(self))

    def is_settled(self, scan_started_ns: int) -> bool:
        """Whether it is older than the scan by more than the clock's grain."""
        return is_before(max(self.mtime_ns, self.ctime_ns), scan_started_ns)


class FolderSource:
    """A folder on this machine.

    Parameters
    ----------
    root
        The folder. It may itself be a link; what it leads to counts.
    roots
        Folders below which `root` must lie. Empty: anywhere.

    Raises
    ------
    ConfigurationError
        If `root` lies outside `roots`.
    """

    def __init__(self, root: Path, *, roots: Sequence[Path] = ()) -> None:
        self.root = Path(os.path.realpath(root.expanduser()))
        allowed = [Path(os.path.realpath(folder.expanduser())) for folder in roots]
        if allowed and not any(self.root.is_relative_to(folder) for folder in allowed):
            inside = ", ".join(map(str, allowed))
            raise ConfigurationError(
                f"The folder {root} lies outside the folders that sources may use.",
                hint=f"Declare a folder below {inside}, or let an operator extend `source_roots`.",
                path=str(root),
            )

    def listing(self) -> Iterator[Listed]:
        """Every document, sorted by path (by code points), as a stream.

        Raises
        ------
        DependencyError
            If any folder cannot be read: what it holds would otherwise look deleted.
        """
        try:
            top = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            hint = "Correct `path` of the source, or mount the folder."
            raise DependencyError("folder", f"There is no folder {self.root}.", hint=hint) from error
        except NotADirectoryError as error:
            raise DependencyError(
                "folder", f"{self.root} is not a folder.", hint="Correct `path` of the source.", retryable=False
            ) from error
        except OSError as error:
            raise _unlisted(self.root, error) from error
        os.close(top)
        yield from self._walk(self.root, "")

    def _walk(self, folder: Path, prefix: str) -> Iterator[Listed]:
        pending: list[Iterator[tuple[str, os.DirEntry[str]]]] = [iter(self._entries(folder, prefix))]
        while pending:
            for path, entry in pending[-1]:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(iter(self._entries(Path(entry.path), f"{path}/")))
                        break
                    yield Listed(path, _signature(entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # It went between the two calls: it is not there.
                except OSError as error:
                    raise _unlisted(Path(entry.path), error) from error
            else:
                pending.pop()

    def _entries(self, folder: Path, prefix: str) -> list[tuple[str, os.DirEntry[str]]]:
        """Folders and documents in `folder`, in the order of the paths of all that is below them."""
        try:
            with os.scandir(folder) as scan:
                found = [entry for entry in scan if _is_wanted(entry)]
        except OSError as error:
            raise _unlisted(folder, error) from error
        named = [(prefix + _shown(entry.name), entry) for entry in found]
        # A folder sorts as its contents do: "a.md" comes before "a/b.md".
        return sorted(named, key=lambda pair: pair[0] + ("/" if pair[1].is_dir(follow_symlinks=False) else ""))

    def read(self, path: str, *, listed: Signature | None = None) -> bytes:  # noqa: ARG002  its rights do not travel with the bytes
        """The bytes of the document at `path`, as they are now.

        Raises
        ------
        DocumentError
            `unreadable` when it is gone, may not be read, is not a regular file or changes meanwhile; `too_large` beyond the limit.
        """
        return self._read(path, path.split("/"), limit=MAX_BYTES)

    def read_access_file(self, folder: str) -> bytes | None:
        """`ACCESS.yaml` of `folder` ("" is the root); None when there is none.

        Raises
        ------
        DocumentError
            When it is there and cannot be read: then nobody knows what it says.
        """
        parts = [*filter(None, folder.split("/")), ACCESS_FILE]
        try:
            return self._read("/".join(parts), parts, limit=1 << 20)
        except DocumentError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def _read(self, path: str, parts: list[str], *, limit: int) -> bytes:
        if not path or any(part in ("", ".", "..") for part in parts):
            raise _unreadable(path, "it is not a path inside the source")
        try:
            descriptor = self._open(parts)
        except (OSError, ValueError) as error:
            raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error
        try:
            data = _content(descriptor, path, limit)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise too_large(path, len(data))
        return data

    def _open(self, parts: list[str]) -> int:
        """Open component by component: no link is followed, whoever changes the folders meanwhile."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for number, part in enumerate(parts):
            flags = _FILE if number == len(parts) - 1 else _FOLDER
            try:
                following = _open_at(part, flags, descriptor)
            finally:
                os.close(descriptor)
            descriptor = following
        return descriptor


def _content(descriptor: int, path: str, limit: int) -> bytes:
    """What an open file holds, and one byte more than `limit` if it grew beyond."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(path, "it is not a regular file")
    if status.st_size > limit:
        raise too_large(path, status.st_size)
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(limit + 1)
    if len(data) <= limit and _signature(os.fstat(descriptor)) != _signature(status):
        # Half of one version and half of another would be neither.
        raise _unreadable(path, "it changed while it was read")
    return data


def _open_at(part: str, flags: int, folder: int) -> int:
    try:
        return os.open(part, flags, dir_fd=folder)
    except FileNotFoundError:
        if not _ESCAPED.search(part):
            raise
        return os.open(_on_disk(part), flags, dir_fd=folder)


def _on_disk(name: str) -> bytes:
    """The bytes of a name that `_shown` escaped."""
    pieces = _ESCAPED.split(name)
    return b"".join(bytes([int(piece, 16)]) if number % 2 else os.fsencode(piece) for number, piece in enumerate(pieces))


def _shown(name: str) -> str:
    r"""`name` as text that any store holds: bytes that are not UTF-8 are written as `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_wanted(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name.startswith(_LOCK_PREFIX) or entry.name == ACCESS_FILE:
        return False
    return entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)


def _signature(status: os.stat_result) -> FileSignature:
    return FileSignature(size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns, inode=status.st_ino)


def _unlisted(folder: Path, error: OSError) -> DependencyError:
    reason = error.strerror or type(error).__name__
    hint = "Give this process the right to read it, or move it out of the source."
    return DependencyError("folder", f"The folder {folder} cannot be listed: {reason}.", hint=hint)


def _unreadable(path: str, why: str) -> DocumentError:
    name = PurePosixPath(path).name
    return DocumentError(
        path, "unreadable", f"{path} cannot be read: {why}.", hint=f"Check that `{name}` exists and that this process may read it."
    )
