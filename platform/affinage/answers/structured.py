"""Answers that are JSON: found in a reply, validated, and written in one way. Pure.

Used for answers, and by datasets and the gate, so that all three call the same replies valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from affinage.answers.citations import Citation
from affinage.errors import ConfigurationError

QUESTION = "question"
# The `document` of evidence that stands in the question itself.
MAX_REPLY_CHARS = 20_000
# A longer reply is no object that a schema here describes; parsing it would only cost time.


def parse_reply(reply: str) -> Any | None:
    """The first JSON object in `reply` (models wrap it in words or code fences), or None."""
    text = reply[:MAX_REPLY_CHARS]
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    position = text.find("{")
    while position >= 0:
        try:
            return decoder.raw_decode(text, position)[0]
        except (ValueError, RecursionError):
            position = text.find("{", position + 1)
    return None


def problems(value: object, schema: Mapping[str, Any]) -> list[str]:
    """Why `value` does not validate against `schema`; empty when it does.

    Raises
    ------
    ConfigurationError
        If the schema itself is not a JSON Schema.
    """
    errors = _validator(json.dumps(schema, sort_keys=True)).iter_errors(value)
    return sorted(f"{'/'.join(str(part) for part in error.absolute_path) or 'object'}: {error.message}" for error in errors)


def canonical(value: object, schema: Mapping[str, Any]) -> str:
    """`value` as one line of JSON with its keys in the order of the schema."""
    return json.dumps(_ordered(value, schema), ensure_ascii=False)


def evidence(value: object, schema: Mapping[str, Any], text: str) -> list[Citation]:
    """Citations of the values of `value` that stand verbatim in `text`.

    Values of a closed list are choices, not quotes, and need no evidence. `document` is `question`: offsets count there.
    """
    citations: list[Citation] = []
    for free in dict.fromkeys(_free_strings(value, schema)):
        position = text.find(free)
        if free.strip() and position >= 0:
            citations.append(Citation(len(citations) + 1, QUESTION, "", None, position, position + len(free), free))
    return citations


def _free_strings(value: object, schema: object) -> Iterator[str]:
    part = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, str) and "enum" not in part and "const" not in part:
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _free_strings(inner, part.get("properties", {}).get(key, {}))
    elif isinstance(value, list):
        for inner in value:
            yield from _free_strings(inner, part.get("items", {}))


def _ordered(value: object, schema: object) -> object:
    part = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, Mapping):
        known = [key for key in part.get("properties", {}) if key in value]
        keys = [*known, *sorted(key for key in value if key not in known)]
        return {key: _ordered(value[key], part.get("properties", {}).get(key, {})) for key in keys}
    if isinstance(value, list):
        return [_ordered(inner, part.get("items", {})) for inner in value]
    return value


@lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    parsed = json.loads(schema)
    try:
        Draft202012Validator.check_schema(parsed)
    except SchemaError as error:
        raise ConfigurationError(f"The answer schema is not a JSON Schema: {error.message}.", hint="Correct `answer_schema`.") from error
    # An empty registry: a reference to a remote schema fails here and is never fetched.
    return Draft202012Validator(parsed, registry=Registry())


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
