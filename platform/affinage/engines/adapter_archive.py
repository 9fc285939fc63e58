"""An adapter on its way to a pod: a plain tar of its two files, written by the sender and read by the pod.

Called by the pods' client and by the services. Nothing in the archive decides a path: names are compared, never joined.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import IO

from affinage.engines.lora import CONFIG, WEIGHTS
from affinage.errors import UnknownObjectError, UsageError

MAX_CONFIG_BYTES = 1024**2
MAX_WEIGHTS_BYTES = 512 * 1024**2
"""Rank 64 on all projections of a model of 8 billion parameters, in bf16, is some 340 MB."""
MAX_ARCHIVE_BYTES = MAX_WEIGHTS_BYTES + MAX_CONFIG_BYTES + 64 * 1024
_LIMITS = {CONFIG: MAX_CONFIG_BYTES, WEIGHTS: MAX_WEIGHTS_BYTES}


def write_archive(folder: Path, file: IO[bytes]) -> int:
    """Write the two files of the adapter in `folder`; returns the size in bytes.

    Raises
    ------
    UnknownObjectError
        If the folder lacks one of them.
    """
    if not all((folder / name).is_file() for name in _LIMITS):
        raise UnknownObjectError("adapter folder", str(folder), hint=f"It needs {CONFIG} and {WEIGHTS}.")
    with tarfile.open(fileobj=file, mode="w:") as tar:
        for name in _LIMITS:
            tar.add(folder / name, arcname=name, recursive=False, filter=_plain)
    return file.tell()


def read_archive(file: IO[bytes], folder: Path) -> None:
    """Copy the two files of an adapter out of `file` into the empty `folder`.

    Raises
    ------
    UsageError
        If it is no plain tar, holds anything else, or a file is too large.
    """
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                # A sparse member is a few bytes that unpack to gigabytes.
                if member.name not in _LIMITS or member.type != tarfile.REGTYPE or member.issparse():
                    raise _no_archive()
                content = tar.extractfile(member)
                if content is None or member.size > _LIMITS[member.name]:
                    raise _no_archive()
                with (folder / member.name).open("xb") as target:
                    shutil.copyfileobj(content, target)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise _no_archive() from error
    if not all((folder / name).is_file() for name in _LIMITS):
        raise _no_archive()


def _no_archive() -> UsageError:
    return UsageError("The body is no adapter.", hint=f"Send a plain tar of {CONFIG} and {WEIGHTS}, each once, and nothing else.")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner and the times of the machine that sends."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o644
    return member
