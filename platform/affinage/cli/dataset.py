"""`affinage dataset`: immutable training rows from feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.errors import RefusedError, UsageError

datasets = typer.Typer(
    no_args_is_help=True, help="Training rows from feedback.\n\nExample: affinage dataset build guichet --kind embedding"
)

Audience = Annotated[
    str | None, typer.Option("--audience", help="Principals with commas (group:hr,user:dana); default: who may use the assistant.")
]
Kind = Annotated[str, typer.Option("--kind", help="sft, dpo, kto, extraction, classification or embedding.")]


@datasets.command("build")
def build(
    assistant: Annotated[str, typer.Argument(help="A declared assistant.")],
    kind: Kind,
    audience: Audience = None,
    json_output: JsonFlag = False,
) -> None:
    """Make a snapshot of all feedback there is now; too few rows is a refusal (exit 3).

    Example: affinage dataset build appels --kind extraction
    """
    from affinage.datasets.build import build_dataset
    from affinage.declarations.repository import get_assistant

    with installation() as app:
        with app.database.read() as connection:
            spec = get_assistant(connection, assistant)
        _emit_built(
            lambda: build_dataset(app.database, app.blobs, assistant=spec, kind=_kind(kind), now=app.now, audience=_principals(audience)),
            kind=kind,
            assistant=assistant,
            as_json=json_output,
        )


@datasets.command("show")
def show(
    dataset_id: Annotated[str | None, typer.Argument(help="Default: list all.")] = None,
    assistant: Annotated[str | None, typer.Option("--assistant", help="Only datasets of this assistant.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show a dataset, or list them.

    Example: affinage dataset show appels.extraction.3f0c9a1b2d4e
    """
    from affinage.datasets.snapshots import get_snapshot, list_snapshots

    with installation() as app, app.database.read() as connection:
        if dataset_id is None:
            found = list_snapshots(connection, assistant=assistant)
            rows = [{**one.as_dict(), "at": one.created_at.isoformat()} for one in found]
            emit({"datasets": rows}, as_json=json_output, lines=[_line(row) for row in rows] or ["No datasets yet."])
            return
        one = get_snapshot(connection, dataset_id)
    shown = {**one.as_dict(), "manifest": dict(one.manifest), "at": one.created_at.isoformat()}
    emit(shown, as_json=json_output, lines=[_line(shown), *(f"  {key}: {value}" for key, value in one.manifest.items())])


@datasets.command("diff")
def diff(before: str, after: str, json_output: JsonFlag = False) -> None:
    """Show which rows came, went or changed sides between two datasets.

    Example: affinage dataset diff appels.extraction.3f0c9a1b2d4e appels.extraction.77aa01b2c3d4
    """
    from affinage.datasets.compare import difference
    from affinage.datasets.read import load_rows
    from affinage.datasets.snapshots import get_snapshot

    with installation() as app:
        with app.database.read() as connection:
            old, new = get_snapshot(connection, before), get_snapshot(connection, after)
        found = difference(load_rows(app.blobs, old), load_rows(app.blobs, new))
    counts = f"{len(found['added'])} added, {len(found['removed'])} removed, {len(found['moved'])} moved, {found['unchanged']} unchanged"
    emit({"before": before, "after": after, **found}, as_json=json_output, lines=[counts])


@datasets.command("export")
def export(
    dataset_id: str,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    form: Annotated[str, typer.Option("--format", help="rows (ours) or chat (hosted fine-tuning services).")] = "rows",
    json_output: JsonFlag = False,
) -> None:
    """Write training and validation rows as JSON lines; the test split never leaves.

    Example: affinage dataset export appels.extraction.3f0c9a1b2d4e --out rows.jsonl --format chat
    """
    from affinage.datasets.snapshots import get_snapshot
    from affinage.datasets.transfer import export_lines

    if form not in ("rows", "chat"):
        raise UsageError(f"`{form}` is not a format.", hint="Formats: rows, chat.")
    with installation() as app:
        with app.database.read() as connection:
            snapshot = get_snapshot(connection, dataset_id)
        lines = list(export_lines(app.blobs, snapshot, form="chat" if form == "chat" else "rows"))
    out.write_text("".join(lines), encoding="utf-8")
    emit({"dataset_id": dataset_id, "rows": len(lines), "file": str(out)}, as_json=json_output, lines=[f"{len(lines)} rows in {out}."])


@datasets.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines: chat rows (`messages`), pairs, or our own export.")],
    *,
    assistant: Annotated[str, typer.Option("--assistant", help="Whose training rows these become.")],
    kind: Kind,
    licence: Annotated[str, typer.Option("--licence", help="`own` when your own people wrote the rows, else their licence.")],
    audience: Audience = None,
    json_output: JsonFlag = False,
) -> None:
    """Make a dataset of rows written elsewhere; the same filters and split apply.

    Example: affinage dataset import calls.jsonl --assistant appels --kind extraction --licence own
    """
    from affinage.datasets.transfer import import_dataset
    from affinage.declarations.repository import get_assistant

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", hint="Give a UTF-8 file of JSON lines.") from error
    with installation() as app:
        with app.database.read() as connection:
            spec = get_assistant(connection, assistant)
        _emit_built(
            lambda: import_dataset(
                app.database,
                app.blobs,
                text,
                assistant=spec,
                kind=_kind(kind),
                licence=licence,
                now=app.now,
                audience=_principals(audience),
            ),
            kind=kind,
            assistant=assistant,
            as_json=json_output,
        )


def _emit_built(make: Any, *, kind: str, assistant: str, as_json: bool) -> None:
    try:
        made = make().as_dict()
    except RefusedError as error:
        refused = {
            "dataset_id": None,
            "digest": None,
            "kind": kind,
            "assistant": assistant,
            "counts": error.fields.get("counts", {}),
            "rejected": error.fields.get("rejected", {}),
            "reasons": list(error.reasons),
            "message": error.message,
        }
        emit(refused, as_json=as_json, lines=[f"Refused: {error.message}", f"Hint: {error.hint}"])
        raise typer.Exit(3) from error
    emit(made, as_json=as_json, lines=[_line(made), *(f"  rejected as {reason}: {n}" for reason, n in made["rejected"].items())])


def _line(row: dict[str, Any]) -> str:
    counts = ", ".join(f"{name} {number}" for name, number in row["counts"].items())
    return f"{row['dataset_id']}  {counts}{'  tainted' if row['tainted'] else ''}"


def _kind(word: str) -> Any:
    from affinage.datasets.rows import ROW_TYPES

    if word not in ROW_TYPES:
        raise UsageError(f"`{word}` is not a kind of dataset.", hint=f"Kinds: {', '.join(ROW_TYPES)}.")
    return word


def _principals(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name != "everyone" and not name.startswith(("user:", "group:"))]
    if wrong or not names:
        raise UsageError(
            f"`{text}` is not a list of principals.", hint="Principals are `everyone`, `group:<name>` and `user:<name>`, with commas."
        )
    return names
