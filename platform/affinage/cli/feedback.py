"""`affinage feedback`: say what an answer was worth, and move feedback in and out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit, note
from affinage.errors import UsageError

feedback = typer.Typer(no_args_is_help=True, help="What users say of answers.\n\nExample: affinage feedback add ANSWER_ID --as alice --up")

Assistant = Annotated[str | None, typer.Option("--assistant", help="Only about answers of this assistant.")]


@feedback.command("add")
def add(
    answer_id: Annotated[str, typer.Argument(help="As printed by `affinage ask`.")],
    *,
    user: Annotated[str, typer.Option("--as", help="The user who received the answer.")],
    rating: Annotated[str | None, typer.Option("--rating", help="up or down.")] = None,
    up: Annotated[bool, typer.Option("--up", help="The same as --rating up.")] = False,
    down: Annotated[bool, typer.Option("--down", help="The same as --rating down.")] = False,
    reason: Annotated[list[str] | None, typer.Option("--reason", "--reasons", help="One of the assistant's; may be repeated.")] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="For people; never learnt from.")] = None,
    correction: Annotated[str | None, typer.Option("--correction", help="What the answer should have been.")] = None,
    preferred_over: Annotated[str | None, typer.Option("--preferred-over", help="The answer to the same question that is worse.")] = None,
    ranking: Annotated[str | None, typer.Option("--ranking", help="Answer ids to the same question, best first, with commas.")] = None,
    spans: Annotated[str | None, typer.Option("--spans", help='JSON list of {"start", "end", "label", "comment"}.')] = None,
    idempotency_key: Annotated[str | None, typer.Option("--idempotency-key", help="The same key again stores nothing.")] = None,
    groups: Annotated[str | None, typer.Option("--groups", help="Accepted for symmetry: feedback needs no group.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Store feedback on an answer; it is on disk when the command ends.

    Example: affinage feedback add 3f0c… --as alice --rating down --reason incorrect --correction "The delay is ten days."
    """
    from affinage.feedback.submission import parse_submission
    from affinage.feedback.submit import submit

    del groups
    ratings = {word for word in (rating, "up" if up else None, "down" if down else None) if word is not None}
    if len(ratings) > 1:
        raise UsageError("Both up and down were given.", hint="Give one of --up, --down and --rating.")
    said: dict[str, Any] = {
        "answer_id": answer_id,
        "rating": next(iter(ratings), None),
        "reasons": [word for given in reason or () for word in given.split(",") if word],
        "comment": comment,
        "correction": correction,
        "preferred_over": preferred_over,
        "ranking": ranking.split(",") if ranking else None,
        "spans": _json(spans) if spans else None,
    }
    submission = parse_submission({key: value for key, value in said.items() if value not in (None, [])})
    with installation() as app, app.database.write() as connection:
        accepted = submit(connection, submission, by=user, now=app.now(), new_id=app.new_id, idempotency_key=idempotency_key)
    word = "Stored" if accepted.created else "Already stored"
    emit({**accepted.body, "created": accepted.created}, as_json=json_output, lines=[f"{word}: {accepted.feedback_id}"])


@feedback.command("list")
def list_(
    assistant: Assistant = None,
    user: Annotated[str | None, typer.Option("--user", help="Only of this user.")] = None,
    answer_id: Annotated[str | None, typer.Option("--answer", help="Only about this answer.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the newest so many.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show submissions, oldest first, superseded ones included.

    Example: affinage feedback list --assistant guichet --limit 20
    """
    from affinage.feedback.listing import list_feedback

    with installation() as app, app.database.read() as connection:
        rows = list_feedback(connection, assistant=assistant, user=user, answer_id=answer_id, limit=limit)
    lines = [f"{row['at']}  {row['user']}  {row['answer_id']}  {_summary(row)}" for row in rows]
    emit({"feedback": rows}, as_json=json_output, lines=lines or ["No feedback yet."])


@feedback.command("export")
def export(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")] = None,
    assistant: Assistant = None,
    json_output: JsonFlag = False,
) -> None:
    """Write all submissions as JSON lines, superseded ones included.

    Example: affinage feedback export --out feedback.jsonl
    """
    from affinage.feedback.export import export_lines

    if out is None and json_output:
        raise UsageError("With --json, standard output holds one object.", hint="Add `--out FILE`.")
    count = 0
    with installation() as app, app.database.read() as connection:
        lines = export_lines(connection, assistant=assistant)
        if out is None:
            for line in lines:
                sys.stdout.write(line)
            return
        with out.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line)
                count += 1
    emit({"exported": count, "file": str(out)}, as_json=json_output, lines=[f"{count} submissions in {out}."])


@feedback.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Our export, TensorZero's feedback, or Open WebUI's feedback export.")],
    rejects: Annotated[Path | None, typer.Option("--rejects", help="Where rows that do not fit go; default: FILE.rejects.jsonl.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Take over feedback about answers that are recorded here; what does not fit goes to a rejects file, whole.

    Example: affinage feedback import open-webui-feedback.json
    """
    from affinage.feedback.import_ import import_feedback, reject_lines

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", hint="Give a UTF-8 file of JSON or JSON lines.") from error
    with installation() as app:
        report = import_feedback(app.database, text, now=app.now)
    where = None
    if report.rejects:
        where = rejects or file.with_name(f"{file.name}.rejects.jsonl")
        # Escaped: a rejected row may hold what UTF-8 cannot.
        where.write_text("".join(json.dumps(line) + "\n" for line in reject_lines(report.rejects)), encoding="utf-8")
        note(f"{len(report.rejects)} rows were not taken over: {where}")
    result = {**report.as_dict(), "rejects": None if where is None else str(where)}
    emit(
        result, as_json=json_output, lines=[f"{report.imported} imported, {report.duplicates} were there, {len(report.rejects)} rejected."]
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--spans is not JSON: {error}.", hint='Example: --spans \'[{"start": 0, "end": 5, "label": "wrong"}]\''
        ) from error


def _summary(row: dict[str, Any]) -> str:
    said = [
        row["rating"],
        *row["reasons"],
        *(word for word in ("comment", "correction", "preferred_over", "ranking", "spans") if row[word]),
    ]
    return " ".join(word for word in said if word) or str(row["origin"])
