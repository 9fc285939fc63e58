"""What the images are made of; the build stages of services/*/Containerfile and flows/Containerfile run this file.

Knows the standard library and pip, and needs no shell. Where the build has a folder `/wheels`, packages come from there and
the Internet is not asked.

    python image.py interpreter                          compile the standard library
    python image.py locked LOCK [--without NAME ...]     install what the lock names, hash-checked, but for NAME ...
                                [--into FOLDER]          into another environment than that of the project
    python image.py project FOLDER                       build and install the project that lies there
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Collection, Iterator
from pathlib import Path

INSTALLED = Path("/opt/affinage")
PROJECT = Path("/opt/project")
"""The project's own files, apart from the packages: a change of the project changes only a small layer."""
HOME = Path("/build/home")
WHEELS = Path("/wheels")
BUILD_TOOLS = {"hatchling", "editables", "packaging", "pathspec", "pluggy", "trove-classifiers"}
"""What builds the project; the lock that has them is that of the developers."""


def entries(lock: str) -> Iterator[tuple[str, str]]:
    """Name and text of each requirement of a lock; the text has the hashes."""
    text = ""
    for line in [*lock.splitlines(keepends=True), "end"]:
        if line.startswith((" ", "\t", "#")):
            text += line if text else ""
            continue
        if text:
            yield text.split("==")[0].split("[")[0].strip().lower(), text
        text = line


def chosen(lock: str, *, only: Collection[str] = (), without: Collection[str] = ()) -> str:
    """The lock with only these requirements, or without those.

    Raises
    ------
    ValueError
        If the lock has no requirement of a name that is given: it would be left out, or in, unnoticed.
    """
    found = dict(entries(lock))
    if missing := {*only, *without} - found.keys():
        raise ValueError(f"The lock does not name {', '.join(sorted(missing))}.")
    return "".join(text for name, text in found.items() if name not in without and (not only or name in only))


def interpreter() -> None:
    """Compile the standard library: the images of Python come without, and nothing can be written beside it later."""
    compiled(Path(sysconfig.get_path("stdlib")), levels=2)


def locked(lock: Path, *, without: Collection[str], into: Path) -> None:
    """Install the requirements, and make the folder that a process may write to."""
    venv.create(into, symlinks=True)
    install(chosen(lock.read_text(encoding="utf-8"), without=without), "--require-hashes", into=into)
    for folder in sorted(into.glob("lib/python3*/site-packages/**/tests")):
        shutil.rmtree(folder, ignore_errors=True)
    compiled(into / "lib")
    HOME.mkdir(parents=True, exist_ok=True)


def project(folder: Path) -> None:
    """Build the project with locked tools, and install it apart."""
    tools = folder / "tools"
    install(chosen((folder / "dev.txt").read_text(encoding="utf-8"), only=BUILD_TOOLS), "--require-hashes", "--target", str(tools))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(folder), tools=tools)
    (wheel,) = (folder / "dist").glob("*.whl")
    pip("install", "--no-deps", "--no-compile", "--prefix", str(PROJECT), str(wheel))
    compiled(PROJECT / "lib", shown_as=INSTALLED / "lib")


def install(lock: str, *options: str, into: Path = INSTALLED) -> None:
    """Install what the text of a lock names."""
    file = Path("/build/chosen.txt")
    file.write_text(lock, encoding="utf-8")
    source = ["--no-index", "--find-links", str(WHEELS)] if WHEELS.is_dir() else []
    pip("install", "--no-deps", "--no-compile", "--only-binary", ":all:", *source, *options, "--requirement", str(file), into=into)
    file.unlink()


def pip(*arguments: str, tools: Path | None = None, into: Path = INSTALLED) -> None:
    """Run pip for the interpreter of an environment."""
    command = [sys.executable, "-m", "pip", "--python", str(into / "bin" / "python")]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **({"PYTHONPATH": str(tools)} if tools else {})}
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([*command, arguments[0], *options, *arguments[1:]], check=True, env=environment)  # noqa: S603  from this file only


def compiled(folder: Path, *, shown_as: Path | None = None, levels: int = 20) -> None:
    """Compile the modules below `folder`; an image does not change, so nothing compares their times again."""
    compileall.compile_dir(
        folder,
        maxlevels=levels,
        quiet=2,  # some packages carry templates that are no Python
        workers=0,
        force=True,
        stripdir=str(folder) if shown_as else None,
        prependdir=str(shown_as) if shown_as else None,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = arguments.add_subparsers(dest="step", required=True)
    steps.add_parser("interpreter")
    packages = steps.add_parser("locked")
    packages.add_argument("lock", type=Path)
    packages.add_argument("--without", nargs="*", default=[])
    packages.add_argument("--into", type=Path, default=INSTALLED)
    steps.add_parser("project").add_argument("folder", type=Path)
    given = arguments.parse_args()
    if given.step == "interpreter":
        interpreter()
    elif given.step == "locked":
        locked(given.lock, without=given.without, into=given.into)
    else:
        project(given.folder)
