"""From declared access rules to the principals of one document. Pure.

The first rule whose glob matches the document's path wins; no match: nobody. Globs are posix paths relative to the
source; `**` matches any depth, `*` and `?` stay within one folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class AccessRule:
    """Documents whose path matches `match` may be read by `allow`."""

    match: str
    allow: tuple[str, ...]


def allowed(rules: Iterable[AccessRule], path: str) -> tuple[str, ...]:
    """Sorted principals that may read the document at `path`; empty when no rule matches."""
    for rule in rules:
        if _pattern(rule.match).fullmatch(path):
            return tuple(sorted(set(rule.allow)))
    return ()


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)
