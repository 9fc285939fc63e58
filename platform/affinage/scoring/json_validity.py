"""Whether an answer is the JSON that was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry


class _Invalid:
    """What `parse_valid` returns for text that is not valid; never equal to a JSON value."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID = _Invalid()


def parse_valid(text: str, schema: Mapping[str, Any] | None) -> Any:
    """The JSON value of `text` if it is JSON and satisfies `schema`, else `INVALID`.

    The whole text must be one JSON value, white space aside: no code fence, no sentence before or after. `NaN`,
    `Infinity` and an object that names a key twice are refused, because readers disagree on what they mean. Without a
    schema any JSON object is valid.

    Raises
    ------
    ValueError
        If `schema` itself is not a JSON Schema (draft 2020-12).
    """
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return INVALID
    if schema is None:
        return value if isinstance(value, dict) else INVALID
    return value if not schema_errors(value, schema) else INVALID


def is_valid(text: str, schema: Mapping[str, Any] | None) -> float:
    """1.0 if `parse_valid` accepts the text, else 0.0."""
    return 0.0 if parse_valid(text, schema) is INVALID else 1.0


def schema_errors(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """What in `value` breaks `schema`, one sentence each, the outermost first."""
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema: {error.message}") from error
    # An empty registry: a reference to a remote schema fails here and is never fetched.
    validator = Draft202012Validator(dict(schema), registry=Registry())
    found = sorted(validator.iter_errors(value), key=lambda error: len(error.absolute_path))
    return [f"{'.'.join(map(str, error.absolute_path)) or 'value'}: {error.message}" for error in found]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
