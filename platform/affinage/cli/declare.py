"""`affinage apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import load_declarations


class _DryRun(Exception):  # noqa: N818  not an error
    """Leaves the transaction without committing."""


def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file with `sources`, `assistants` and `roles`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change and change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove what the file no longer declares.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Bring sources, assistants and roles to what FILE declares.

    Example: affinage apply -f affinage.yaml --dry-run
    """
    declared = load_declarations(file)
    with installation() as app:
        try:
            with app.database.write() as connection:
                report = apply_declarations(connection, declared, now=app.now(), prune=prune)
                if dry_run:
                    raise _DryRun
        except _DryRun:
            pass
    lines = [f"{word:9} {name}" for word, names in report.as_dict().items() for name in names]
    emit(report.as_dict(), as_json=json_output, lines=[*lines, "Nothing was changed (dry run)."] if dry_run else lines)
