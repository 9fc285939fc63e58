"""Exact match of structured answers."""

from __future__ import annotations

import unicodedata
from typing import Any


def exact_match(answer: Any, target: Any) -> float:
    """1.0 if two JSON values are the same, else 0.0.

    The order of keys does not count and the order of lists does. Strings are compared after Unicode NFC and without
    surrounding white space; case counts. `true` is not 1, and a missing key is not `null`.
    """
    return 1.0 if _canonical(answer) == _canonical(target) else 0.0


def same_text(value: str) -> str:
    """The form in which strings are compared."""
    return unicodedata.normalize("NFC", value).strip()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return "object", {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return "list", [_canonical(inner) for inner in value]
    if isinstance(value, str):
        return same_text(value)
    # Python says True == 1; JSON does not.
    return ("boolean", value) if isinstance(value, bool) else value
