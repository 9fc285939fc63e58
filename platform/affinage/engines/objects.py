"""When an answer that is to be a JSON object needs no further token. Pure."""

from __future__ import annotations

import json

MAX_PREAMBLE_TOKENS = 16
"""Models put a few words or a code fence before an object; one that has not begun after so many tokens is given up. None of
the demo's 216 replies of the bare SmolLM2-135M held a valid object, with this limit or without. A model that reasons at
length before its object would lose it."""


def object_is_over(text: str, tokens: int) -> bool:
    """Whether the first object in `text` is complete, or none has begun in `tokens` tokens.

    What a model adds after the object is read by nobody.
    """
    start = text.find("{")
    if start < 0:
        return tokens >= MAX_PREAMBLE_TOKENS
    if not text.rstrip().endswith("}"):
        return False
    try:
        json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return False
    return True
