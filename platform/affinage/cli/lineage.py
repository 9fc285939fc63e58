"""`affinage explain`, `affinage forget` and `affinage user export`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit

users = typer.Typer(no_args_is_help=True, help="What is kept of a user.\n\nExample: affinage user export --user alice")

User = Annotated[str, typer.Option("--user", help="Name of the user.")]


def explain(
    answer_id: Annotated[str, typer.Argument(help="As printed by `affinage ask`.")],
    user: Annotated[str | None, typer.Option("--as", help="Ask as this user; default: as the operator of this machine.")] = None,
    groups: Annotated[str | None, typer.Option("--groups", help="Groups of that user, with commas.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show what an answer was made from, and what the model that gave it learnt from.

    Example: affinage explain 3f0c… --as alice
    """
    from affinage.identity.directory import reader_of
    from affinage.lineage.explain import explain as explain_answer

    with installation() as app, app.database.read() as connection:
        names = [name for name in (groups or "").split(",") if name]
        reader = None if user is None else reader_of(connection, user=user, groups=names)
        found = explain_answer(connection, answer_id, reader=reader)
    emit(found, as_json=json_output, lines=_explained(found))


def forget(
    user: User,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and name only.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Remove what a user asked and said, and name the datasets and adapters that learnt from it.

    Example: affinage forget --user alice --dry-run
    """
    from affinage.lineage.forget import forget_user

    with installation() as app:
        report = forget_user(app.database, app.blobs, user=user, dry_run=dry_run).as_dict()
    verb = "Would remove" if dry_run else "Removed"
    lines = [f"{verb} {report['interactions']} interactions, {report['feedback']} submissions, {report['dataset_rows']} training rows."]
    lines += [f"Tainted dataset: {name}" for name in report["tainted_snapshots"]]
    lines += [f"Tainted adapter: {name}; train again without these rows" for name in report["tainted_adapters"]]
    emit(report, as_json=json_output, lines=lines)


@users.command("export")
def export(user: User, json_output: JsonFlag = False) -> None:
    """Show all that is kept of a user; with --json, in full.

    Example: affinage user export --user alice --json
    """
    from affinage.lineage.export import export_user

    with installation() as app, app.database.read() as connection:
        found = export_user(connection, user=user)
    counts = f"{len(found['interactions'])} interactions, {len(found['feedback'])} submissions, {len(found['dataset_rows'])} training rows"
    emit(found, as_json=json_output, lines=[f"{user}: {counts}. Add --json for all of it."])


def _explained(found: dict[str, Any]) -> list[str]:
    lines = [f"Question: {found['question']}", f"Answer: {found['text']}"]
    lines += [f"  {passage['rank']}. {passage.get('document') or '(not visible)'}" for passage in found["passages"]]
    lines.append(f"Variant {found['variant']}, adapter {found['adapter'] or 'none'}, arm {found['arm']} (q {found['q']:g})")
    for origin in found["lineage"]["adapters"]:
        data = origin["dataset"]
        if data is not None:
            learnt = data["learnt_from"]
            lines.append(
                f"{origin['adapter']} learnt from {data['dataset_id']}: {learnt['rows']} rows, {learnt['feedback']} submissions, "
                f"{learnt['users']} users, {learnt['documents']} documents{' (tainted)' if origin['tainted'] else ''}"
            )
    return lines
