"""`affinage doctor`."""

from __future__ import annotations

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit


def doctor(json_output: JsonFlag = False) -> None:
    """Look at each part of this installation and say what to do where something is missing.

    Example: affinage doctor
    """
    from affinage.doctor import examine

    with installation() as app:
        checks = list(examine(app))
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'} {check.name:13} {check.detail}")
        lines += [f"     {check.hint}"] if check.hint else []
    emit({"checks": [check.as_dict() for check in checks]}, as_json=json_output, lines=lines)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
