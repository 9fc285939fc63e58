"""`affinage database`: the record of truth itself."""

from __future__ import annotations

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit

database = typer.Typer(no_args_is_help=True, help="The record of truth.\n\nExample: affinage database migrate")


@database.command("migrate")
def migrate(json_output: JsonFlag = False) -> None:
    """Bring the schema to this version's; nothing to do when it is there. Other commands do it by themselves.

    A cluster runs it once before an upgrade, so that a migration that fails leaves the old version serving.

    Example: affinage database migrate
    """
    with installation() as app:
        revision = app.database.revision()
    emit({"revision": revision}, as_json=json_output, lines=[f"The schema is at revision {revision}."])
