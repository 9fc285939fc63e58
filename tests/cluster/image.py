"""Container images made from files, without a registry or a builder: the archive that `ctr images import` reads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MEDIA = "application/vnd.oci.image"
EPOCH = "1970-01-01T00:00:00Z"


def write_layer(file: Path, contents: Mapping[str, Path]) -> Path:
    """Write a layer that holds `contents`, by path in the image; owned by root, readable and executable as the files are."""

    def roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(file, "w") as archive:
        for name, source in sorted(contents.items()):
            archive.add(source, arcname=name.lstrip("/"), filter=roots)
    return file


def write_image(file: Path, *, name: str, layers: Sequence[Path], entrypoint: Sequence[str] = (), user: str = "65532:65532") -> Path:
    """Write an image of `layers` (tar files, lowest first) as an OCI archive.

    Parameters
    ----------
    name
        As a pod names it, with a tag, such as `affinage.local/demo:1`.
    """
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": user, "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}" for layer in layers]},
        "created": EPOCH,
        "history": [{"created": EPOCH, "created_by": layer.name} for layer in layers],  # a builder refuses a base without
    }
    with tarfile.open(file, "w") as archive:
        written = [_add_file(archive, layer, kind=f"{MEDIA}.layer.v1.tar") for layer in layers]
        described = _add(archive, _encoded(config), kind=f"{MEDIA}.config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json", "config": described, "layers": written}
        entry = _add(archive, _encoded(manifest), kind=f"{MEDIA}.manifest.v1+json")
        entry["annotations"] = {"io.containerd.image.name": name}
        _put(archive, "index.json", _encoded({"schemaVersion": 2, "manifests": [entry]}))
        _put(archive, "oci-layout", _encoded({"imageLayoutVersion": "1.0.0"}))
    return file


def _encoded(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _add_file(archive: tarfile.TarFile, file: Path, *, kind: str) -> dict[str, Any]:
    digest = _digest(file)
    member = tarfile.TarInfo(f"blobs/sha256/{digest}")
    member.size = file.stat().st_size
    with file.open("rb") as opened:
        archive.addfile(member, opened)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": member.size}


def _add(archive: tarfile.TarFile, content: bytes, *, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    _put(archive, f"blobs/sha256/{digest}", content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
