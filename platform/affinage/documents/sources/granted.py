"""Principals that a place writes beside its documents: a tag of an object, a column of a row. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_PRINCIPAL = re.compile(r"everyone|(?:user|group):\S+")
_BETWEEN = re.compile(r"[\s,;]+")


def principals_of(value: object) -> tuple[str, ...]:
    """The sorted principals in `value`: a list, a JSON list, or names between spaces, commas or semicolons.

    Nobody, when anything in it is not understood: a mistake shows as a missing document, never as an open one.
    """
    if isinstance(value, str):
        names: Iterable[object] = _parsed(value)
    elif isinstance(value, (list, tuple)):
        names = value
    else:
        return ()
    found = {name if isinstance(name, str) else "" for name in names}
    return tuple(sorted(found)) if all(_PRINCIPAL.fullmatch(name) for name in found) else ()


def _parsed(text: str) -> list[object]:
    if not text.lstrip().startswith("["):
        return [name for name in _BETWEEN.split(text) if name]
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError):
        return [""]
