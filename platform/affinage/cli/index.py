"""`affinage index`."""

from __future__ import annotations

from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit, note
from affinage.cli.progress import shown
from affinage.errors import AffinageError, UsageError

index = typer.Typer(no_args_is_help=True, help="What is searched: sync, check, build, switch.\n\nExample: affinage index sync handbook")

SourceArgument = Annotated[str, typer.Argument(help="Name of a declared source.")]
NOTHING_DECLARED = "No source is declared. Declare one in YAML and run `affinage apply -f FILE`."


@index.command("sync")
def sync(
    sources: Annotated[list[str] | None, typer.Argument(help="Names of sources; all when none is named.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it would cost, and do nothing.")] = False,
    confirm_deletes: Annotated[bool, typer.Option("--confirm-deletes", help="Delete even when very many documents are missing.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only sources that somebody said have changed.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Index what changed, and nothing else. Exits 3 when deletions wait for confirmation.

    Example: affinage index sync handbook --dry-run
    """
    with installation() as app:
        if changed and (sources or dry_run or confirm_deletes):
            raise UsageError("`--changed` names the sources by itself.", hint="Leave out the names and the other options.")
        with shown() as (say, watch):
            if changed:
                report = app.sync_changed(progress=say, watch=watch)
            else:
                report = app.sync(*(sources or ()), dry_run=dry_run, confirm_deletes=confirm_deletes, progress=say, watch=watch)
        with app.database.read() as connection:
            from affinage.index.ledger import failures as failures_of
            from affinage.index.sources import declared_sources

            names = list(dict.fromkeys(sources or ())) or declared_sources(connection)
            failures = [(name, failure) for name in names for failure in failures_of(connection, name)]
    result = report.as_dict()
    if not names:
        note(NOTHING_DECLARED)
    for name, failure in failures:
        note(f"{name}/{failure['path']}: {failure['message']} {failure['hint']}".rstrip())
    counts = (f"{title:9} " + ", ".join(f"{v} {k}" for k, v in result[title].items()) for title in ("documents", "chunks"))
    priced = f", for {report.cost}" if report.cost else ""
    cost = [f"would embed {report.tokens} tokens; about {report.estimated_seconds} s without writing{priced}"] if dry_run else []
    emit(result, as_json=json_output, lines=[f"{report.status} in {report.seconds} s", *counts, *cost])
    if report.status == "held":
        note(f"{report.documents.held} documents are missing and were not deleted. If they are gone for good: add `--confirm-deletes`.")
        raise typer.Exit(3)


@index.command("status")
def status(json_output: JsonFlag = False) -> None:
    """Show what each source holds, how old its last complete scan is, what could not be read and what reuse saved.

    Example: affinage index status
    """
    from affinage.cli.index_lines import status_lines
    from affinage.index.sources import declared_sources
    from affinage.index.status import source_status

    with installation() as app, app.database.read() as connection:
        found = [source_status(connection, name, now=app.now()) for name in declared_sources(connection)]
    if not found:
        note(NOTHING_DECLARED)
    lines = [line for one in found for line in status_lines(one)]
    emit({"sources": [s.as_dict() for s in found]}, as_json=json_output, lines=lines)


@index.command("runs")
def runs(
    source: Annotated[str | None, typer.Argument(help="Name of a source; all when none is named.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 20,
    json_output: JsonFlag = False,
) -> None:
    """Show the last syncs, switches and rollbacks, the newest first.

    Example: affinage index runs handbook --limit 5
    """
    from affinage.cli.index_lines import run_line
    from affinage.index.runs import list_runs

    with installation() as app, app.database.read() as connection:
        found = list_runs(connection, source, limit=limit)
    emit({"runs": found}, as_json=json_output, lines=map(run_line, found))


@index.command("verify")
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what differs, from the vector cache.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Compare the vector store with the ledger row by row. Exits 1 when something differs and was not repaired.

    Example: affinage index verify --repair
    """
    from affinage.index.verify import verify as run

    with installation() as app:
        report = run(app.index_clients(progress=note), repair=repair)
    if report.found > report.repaired:
        raise AffinageError(
            f"The vector store differs from the ledger: {report.missing} rows missing, {report.orphaned} orphaned, {report.stale} stale.",
            hint="Run `affinage index verify --repair`.",
        )
    line = ", ".join(f"{count} {name}" for name, count in report.as_dict().items())
    emit(report.as_dict(), as_json=json_output, lines=[line])


@index.command("rebuild")
def rebuild(source: SourceArgument, json_output: JsonFlag = False) -> None:
    """Build a generation of SOURCE with the declared embedder beside the one that serves; nothing is switched.

    Example: affinage index rebuild handbook
    """
    with installation() as app:
        report = app.build_generation(source, progress=note)
    line = f"Generation {report.generation_id} is {report.state}: {report.documents} documents, {report.chunks.embedded} chunks embedded."
    hint = [f"Make it serve: affinage index switch {source}"] if report.state == "ready" else []
    emit(report.as_dict(), as_json=json_output, lines=[line, *hint])


@index.command("switch")
def switch(
    source: SourceArgument,
    generation: Annotated[str | None, typer.Option("--generation", help="Which one; default: the newest that is ready.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Make a built generation of SOURCE serve, after checking it; the former one is kept for `rollback`.

    Example: affinage index switch handbook
    """
    from affinage.index.generations import switch as run

    with installation() as app:
        report = run(app.index_clients(progress=note), source, generation_id=generation)
    emit(report.as_dict(), as_json=json_output, lines=[f"Generation {report.generation_id} serves {source}."])


@index.command("rollback")
def rollback(source: SourceArgument, json_output: JsonFlag = False) -> None:
    """Make the generation serve that served SOURCE before the last switch.

    Example: affinage index rollback handbook
    """
    from affinage.index.generations import rollback as run

    with installation() as app:
        report = run(app.index_clients(progress=note), source)
    emit(report.as_dict(), as_json=json_output, lines=[f"Generation {report.generation_id} serves {source}."])
