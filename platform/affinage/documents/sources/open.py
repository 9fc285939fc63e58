"""From a declared source to the place itself, and to its rights."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from affinage.declarations.model import SourceSpec
from affinage.documents.sources.access_files import FileAccess
from affinage.documents.sources.folder import FolderSource
from affinage.identity.access import AccessRule, allowed


def open_source(spec: SourceSpec, *, roots: Sequence[Path] = ()) -> FolderSource:
    """The place that `spec` declares.

    Raises
    ------
    ConfigurationError
        If it lies outside `roots`, when any are given.
    """
    return FolderSource(spec.path, roots=roots)


def allow_of(spec: SourceSpec, source: FolderSource) -> Callable[[str], tuple[str, ...]]:
    """A function from a document's path to the sorted principals that may read it; empty: nobody.

    Make a new one for each run: what `ACCESS.yaml` files say is read once and kept. Paths and globs are compared in
    NFC, since a disk may write an accent in two ways and a rule that misses its documents could leave them to a wider one.
    """
    if spec.access == "from_files":
        return FileAccess(source)
    rules = tuple(AccessRule(unicodedata.normalize("NFC", rule.match), rule.allow) for rule in spec.rules())
    return lambda path: allowed(rules, unicodedata.normalize("NFC", path))
