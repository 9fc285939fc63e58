"""`affinage ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.errors import UsageError


def ask(
    assistant: Annotated[str, typer.Argument(help="Name of the assistant.")],
    question: Annotated[str, typer.Argument(help="The question, in one of the assistant's languages.")],
    as_user: Annotated[str, typer.Option("--as", help="Act as this user.")] = "",
    groups: Annotated[str, typer.Option("--groups", help="Further groups of the user, comma-separated.")] = "",
    json_output: JsonFlag = False,
) -> None:
    """Ask an assistant; prints the answer with its sources.

    Example: affinage ask guichet "How long is a parking permit valid?" --as alice
    """
    if not as_user:
        raise UsageError("`ask` needs the user who asks.", hint="Add `--as USER`: rights follow from it.")
    from affinage.serving.answering import AskRequest

    members = tuple(name for name in (part.strip() for part in groups.split(",")) if name)
    with installation() as app:
        answered = app.answering.answer(AskRequest.of(assistant, question, user=as_user, groups=members))
    result = answered.as_dict()
    places = (f"[{c['n']}] {c['document']}" + (f", page {c['page']}" if c["page"] else "") for c in result["citations"])
    emit(result, as_json=json_output, lines=[result["text"], "", *places, f"answer {result['answer_id']}"])
