"""What a verb prints: one JSON object with `--json`, lines for people without; errors the same way.

With `--json` standard output holds exactly one object; logs and progress go to standard error always.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from affinage.errors import AffinageError, RefusedError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]


def emit(result: Mapping[str, Any], *, as_json: bool, lines: Iterable[str]) -> None:
    """Print `result` as JSON, or `lines` for people."""
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, default=str) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def emit_error(error: AffinageError, *, as_json: bool) -> None:
    """Print an error, with the reasons of a refusal: JSON on standard output with `--json`, else text on standard error."""
    reasons = error.reasons if isinstance(error, RefusedError) else ()
    if as_json:
        told = {"type": type(error).__name__, "message": error.message, "hint": error.hint} | ({"reasons": reasons} if reasons else {})
        sys.stdout.write(json.dumps({"error": told}, ensure_ascii=False) + "\n")
    else:
        lines = [f"Error: {error.message}", *(f"  {reason}" for reason in reasons), *([f"Hint: {error.hint}"] if error.hint else [])]
        sys.stderr.write("".join(f"{line}\n" for line in lines))


def note(line: str) -> None:
    """A hint or progress line on standard error."""
    sys.stderr.write(line + "\n")
