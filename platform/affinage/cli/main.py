"""The `affinage` command: nouns, verbs, and what becomes of an error.

Noun modules import heavy libraries inside their functions only, so each command starts in a second.
"""

from __future__ import annotations

import logging
import sys

import typer

from affinage.cli import (
    adapter,
    ask,
    base,
    database,
    dataset,
    declare,
    demo,
    directory,
    experiment,
    extract,
    feedback,
    health,
    index,
    lineage,
    rollout,
    search,
    serve,
    source,
)
from affinage.cli.output import emit_error
from affinage.errors import AffinageError, UsageError

app = typer.Typer(
    name="affinage",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Documents become answers, answers become feedback, feedback becomes better models that you run yourself.\n\n"
    "Example: affinage demo",
)
app.command("demo")(demo.demo)
app.command("doctor")(health.doctor)
app.command("apply")(declare.apply)
app.add_typer(database.database, name="database")
app.add_typer(source.sources, name="source")
app.command("extract")(extract.extract)
app.add_typer(index.index, name="index")
app.command("search")(search.search)
app.command("ask")(ask.ask)
app.add_typer(experiment.experiments, name="experiment")
app.add_typer(feedback.feedback, name="feedback")
app.add_typer(dataset.datasets, name="dataset")
app.add_typer(base.bases, name="base")
app.add_typer(adapter.adapters, name="adapter")
app.command("explain")(lineage.explain)
app.command("forget")(lineage.forget)
app.add_typer(lineage.users, name="user")
app.add_typer(serve.serve, name="serve")
app.command("up")(serve.up)
app.add_typer(rollout.rollouts, name="rollout")
app.add_typer(directory.keys, name="key")
app.add_typer(directory.groups, name="group")


def main() -> None:
    """Run the command; exit 0 done, 1 failed, 2 wrong usage, 3 refused."""
    as_json = "--json" in sys.argv
    try:
        result = app(standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.Abort:
        code = 1
    except typer.TyperException as error:
        emit_error(UsageError(error.format_message(), hint="Add `--help` to see what the command takes."), as_json=as_json)
        code = 2
    except AffinageError as error:
        logging.getLogger("affinage").debug("The command failed.", exc_info=True)
        emit_error(error, as_json=as_json)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
