"""The project's images, built from services/*/Containerfile and flows/Containerfile without a registry, a daemon or the Internet.

`python -m tests.cluster.images` fetches the locked wheels and builds; `make test-cluster` calls it before the tests enter the namespaces
of a node. What has not changed is not built again: the images are in the cache, by a hash of everything they are made from.

The base image is Debian's Python (`rootfs.tar`) with the pip of this environment, under the name of the public one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tests.cluster.image import write_image, write_layer
from tests.support.programs import required

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affinage" / "images"
LOCKS = {"gateway": "gateway", "embedder": "embedder", "generator": "embedder", "worker": "flows"}
"""The lock of each image that is built here; torch and what hangs on it, gigabytes, reach the pods from `packages`."""
BASE = "localhost/python:3.11-slim"
KEPT = 3
# Builds of an image, for as many branches.


def archive(name: str) -> Path:
    """The image as an OCI layout (a folder), built now unless it is there; its name is `affinage/NAME:VERSION`."""
    layout = CACHE / f"{name}-{_digest(name)}"
    if not layout.exists():
        _build(name, layout)
        before = sorted(CACHE.glob(f"{name}-*/"), key=lambda one: one.stat().st_mtime)
        for old in before[:-KEPT]:
            shutil.rmtree(old)
    return layout


def packages() -> Path:
    """A folder with what the locks of the generator and the worker name and their images here lack, installed now unless it is there."""
    locks = {name: _pins(f"requirements/{name}.txt") for name in ("generator", "embedder", "worker", "flows")}
    wanted = {**_less(locks["generator"], locks["embedder"]), **_less(locks["worker"], locks["flows"])}
    text = "".join(text for _, text in sorted(wanted.items()))
    folder = CACHE / f"packages-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not folder.exists():
        lock, part = CACHE / "packages.txt", folder.with_suffix(".part")
        lock.write_text(text, encoding="utf-8")
        # Python cannot write beside the modules of a volume that is read-only, and would compile them at each start.
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--compile-bytecode"]
        _run([*uv, "--target", part, "--requirement", lock], dict(os.environ))
        for old in CACHE.glob("packages-*/"):
            if old != part:
                shutil.rmtree(old)
        part.rename(folder)
    return folder


def files(image: Path) -> Iterator[tuple[str, int]]:
    """Path and size of every file in the layers of an image, those that a higher layer hides included."""
    for layer in _layers(image):
        with tarfile.open(layer) as inside:
            for member in inside:
                if member.isfile():
                    yield member.name, member.size


def layers_bytes(image: Path) -> int:
    """Size of the layers as they are unpacked from a registry: tar files, not compressed."""
    return sum(layer.stat().st_size for layer in _layers(image))


def configuration(image: Path) -> dict[str, object]:
    """User, command and environment of the image."""
    config: dict[str, object] = _json(_blob(image, _manifest(image)["config"]))["config"]
    return config


def _manifest(image: Path) -> dict[str, Any]:
    (entry,) = _json(image / "index.json")["manifests"]
    return _json(_blob(image, entry))


def _layers(image: Path) -> list[Path]:
    return [_blob(image, layer) for layer in _manifest(image)["layers"]]


def _blob(image: Path, described: Mapping[str, Any]) -> Path:
    return image / "blobs" / str(described["digest"]).replace(":", "/")


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _sources(name: str) -> list[Path]:
    folder = ROOT / ("flows" if name == "worker" else f"services/{name}")
    trees = [path for tree in (folder, ROOT / "platform") for path in tree.rglob("*") if "__pycache__" not in path.parts]
    single = ["pyproject.toml", ".dockerignore", "services/image.py", "services/build.sh", "tests/cluster/rootfs.txt"]
    locks = [f"requirements/{LOCKS[name]}.txt", "requirements/dev.txt"]
    return sorted([path for path in trees if path.is_file()] + [ROOT / path for path in (*single, *locks)])


def _digest(name: str) -> str:
    found = hashlib.sha256()
    for path in _sources(name):
        found.update(f"{path.relative_to(ROOT)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def _build(name: str, layout: Path) -> None:
    for tool in ("buildah", "skopeo"):
        required(tool)
    wheels = CACHE / "wheels"
    _fetch(ROOT / "requirements" / f"{LOCKS[name]}.txt", wheels)
    _fetch(_build_tools(), wheels)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _base(Path(folder))
        environment = {**os.environ, "IMAGES": str(CACHE), "WHEELS": str(wheels), "LAYOUTS": folder}
        flags = ["--pull-never", f"--build-arg=BASE={BASE}", f"--build-arg=LOCK={LOCKS[name]}"]
        made = Path(folder) / name
        _link_known_blobs(made)
        _finish(made, _run([ROOT / "services" / "build.sh", name, "--", *flags], environment).strip())
        made.rename(layout)


def _link_known_blobs(layout: Path) -> None:
    """Layers that any image here has are not written again: after a change of the project, a few MB are."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for known in CACHE.glob("*/blobs/sha256/*"):
        if not (blobs / known.name).exists():
            (blobs / known.name).hardlink_to(known)


def _finish(layout: Path, tag: str) -> None:
    """Give the image the name that a node knows it by, and remove the blobs that it does not have."""
    index = _json(layout / "index.json")
    (entry,) = index["manifests"]
    entry["annotations"] = {"io.containerd.image.name": f"docker.io/{tag}"}
    (layout / "index.json").write_text(json.dumps(index), encoding="utf-8")
    kept = {_blob(layout, described) for described in (entry, _manifest(layout)["config"])} | {*_layers(layout)}
    for blob in set((layout / "blobs" / "sha256").iterdir()) - kept:
        blob.unlink()


def _fetch(lock: Path, wheels: Path) -> None:
    """Wheels of a lock, hash-checked, from wherever pip is configured to get them."""
    done = wheels / f".{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if done.exists():
        return
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    _run([*pip, "--dest", wheels, "--requirement", lock], dict(os.environ))
    done.touch()


def _steps() -> ModuleType:
    """The script that the images run to build themselves."""
    sys.path.insert(0, str(ROOT / "services"))
    try:
        import image
    finally:
        sys.path.pop(0)
    return cast("ModuleType", image)


def _pins(lock: str) -> dict[str, str]:
    """Text of each requirement of a lock, by name."""
    return dict(_steps().entries((ROOT / lock).read_text(encoding="utf-8")))


def _less(pins: dict[str, str], there: dict[str, str]) -> dict[str, str]:
    """What is not there; what is there, is there in the same version, or the folder would hide it."""
    versions = {name: text.split()[0] for name, text in there.items()}
    other = [name for name, text in pins.items() if versions.get(name, text.split()[0]) != text.split()[0]]
    assert not other, f"The locks disagree about {other}."
    return {name: text for name, text in pins.items() if name not in there}


def _build_tools() -> Path:
    """What builds the project, out of the developers' lock."""
    steps = _steps()
    file = CACHE / "build-tools.txt"
    CACHE.mkdir(parents=True, exist_ok=True)
    file.write_text(steps.chosen((ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8"), only=steps.BUILD_TOOLS), encoding="utf-8")
    return file


def _base(folder: Path) -> None:
    """Debian's Python, pip and the name `python`, known to buildah as the public base image."""
    pip, link = folder / "pip", folder / "python"
    shutil.copytree(Path(str(find_spec("pip").origin)).parent, pip, ignore=shutil.ignore_patterns("__pycache__"))  # type: ignore[union-attr]
    link.symlink_to("python3.11")
    rootfs = required("rootfs.tar")
    made = {"usr/bin/python": link, "usr/local/lib/python3.11/dist-packages/pip": pip}
    layer = write_layer(folder / "layer.tar", made)
    image = write_image(folder / "base.tar", name=f"pip-{version_of('pip')}", layers=[rootfs, layer], user="0:0")
    _run([ROOT / "services" / "build.sh", "--base", image, BASE], {**os.environ, "IMAGES": str(CACHE)})


def _run(command: list[str | Path], environment: dict[str, str]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


if __name__ == "__main__":
    for wanted in sys.argv[1:] or LOCKS:
        print(archive(wanted))  # noqa: T201  the caller reads it
    print(packages())  # noqa: T201  the caller reads it
