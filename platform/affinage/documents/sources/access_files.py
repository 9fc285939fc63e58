"""`access: from_files`: who may read a document, from `ACCESS.yaml` beside it.

The file in the nearest folder decides alone; a file that cannot be read or understood allows nobody. Each file holds
the list of a declaration's `access`. Its globs are paths relative to the source, or to the folder it stands in.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

import yaml
from pydantic import TypeAdapter, ValidationError

from affinage.declarations.model import AccessRuleSpec
from affinage.documents.sources.folder import FolderSource
from affinage.errors import DocumentError
from affinage.identity.access import AccessRule, allowed
from affinage.identity.rights import EVERYONE

MAX_DEPTH = 20
# Brackets inside one another; a rule needs two, and the parser takes quadratic time over what nests deeply.
_BRACKET = re.compile(r"[\[\]{}]")
LOGGER = logging.getLogger(__name__)
_RULES = TypeAdapter(tuple[AccessRuleSpec, ...])


class FileAccess:
    """The rights of one source's documents; each file is read once in the life of this object.

    A rule that is not understood hides what it stands for, so a mistake shows as missing documents, never as open ones.
    """

    def __init__(self, source: FolderSource) -> None:
        self._source = source
        self._rules: dict[str, tuple[AccessRule, ...] | None] = {}

    def __call__(self, path: str) -> tuple[str, ...]:
        """Sorted principals that may read the document at `path`."""
        folder = path.rpartition("/")[0]
        while True:
            rules = self._rules_of(folder)
            if rules is not None:
                return _first_match(rules, path, folder)
            if not folder:
                return ()
            folder = folder.rpartition("/")[0]

    def _rules_of(self, folder: str) -> tuple[AccessRule, ...] | None:
        if folder not in self._rules:
            self._rules[folder] = self._read(folder)
        return self._rules[folder]

    def _read(self, folder: str) -> tuple[AccessRule, ...] | None:
        """The rules of the file in `folder`: None when there is no file, empty when nobody can tell what it says."""
        try:
            raw = self._source.read_access_file(folder)
            if raw is None:
                return None
            return parse_rules(raw)
        except (DocumentError, ValueError, yaml.YAMLError, RecursionError) as error:
            LOGGER.warning("An ACCESS.yaml cannot be used: nobody may read what it stands for.", extra={"reason": type(error).__name__})
            return ()


def parse_rules(raw: bytes) -> tuple[AccessRule, ...]:
    """The rules in `raw`; an empty file holds none, so it allows nobody.

    Raises
    ------
    ValueError
        If it is not a list of `match` and `allow`.
    yaml.YAMLError
        If it is not YAML.
    """
    text = raw.decode("utf-8-sig")
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} brackets inside one another")
    try:
        found = _RULES.validate_python(yaml.safe_load(text) or ())
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"])) from error
    return tuple(AccessRule(unicodedata.normalize("NFC", rule.match), rule.allow) for rule in found)


def _depth(text: str) -> int:
    """The deepest nesting of brackets, counted without looking at quotes."""
    steps = (1 if mark in "[{" else -1 for mark in _BRACKET.findall(text))
    return max(accumulate(steps), default=0)


def _first_match(rules: Sequence[AccessRule], path: str, folder: str) -> tuple[str, ...]:
    whole = unicodedata.normalize("NFC", path)
    inside = unicodedata.normalize("NFC", path[len(folder) + 1 :] if folder else path)
    for rule in rules:
        if _matches(rule.match, whole) or _matches(rule.match, inside):
            return tuple(sorted(set(rule.allow)))
    return ()


def _matches(glob: str, path: str) -> bool:
    """Whether `glob` matches, also where the rule allows nobody."""
    return bool(allowed((AccessRule(glob, (EVERYONE,)),), path))
