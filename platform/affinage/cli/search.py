"""`affinage search`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.errors import UnknownObjectError, UsageError


def search(  # noqa: PLR0917 - the parameters of a command
    assistant: Annotated[str, typer.Argument(help="Name of the assistant whose sources are searched.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    as_user: Annotated[str, typer.Option("--as", help="Act as this user.")] = "",
    groups: Annotated[str, typer.Option("--groups", help="Further groups of the user, comma-separated.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="How many passages at most.")] = 10,
    json_output: JsonFlag = False,
) -> None:
    """Find passages that the user may read, best first.

    Example: affinage search guichet "renewing a residence permit" --as alice -k 5
    """
    if not as_user:
        raise UsageError("`search` needs the user who searches.", hint="Add `--as USER`: rights follow from it.")
    members = tuple(name for name in (part.strip() for part in groups.split(",")) if name)
    with installation() as app:
        generations, principals = _allowed(app, assistant, as_user, members)
        found = app.searcher.search(query, generations=generations, principals=principals, k=k) if generations else []
    hits = [
        {"rank": rank, "document": p.document, "title": p.title, "page": p.page, "chunk_id": p.chunk_id, "text": p.text}
        for rank, p in enumerate(found, start=1)
    ]
    lines = [line for hit in hits for line in (f"{hit['rank']}. {hit['document']}: {hit['title']}", f"   {hit['text']}")]
    emit({"hits": hits}, as_json=json_output, lines=lines or ["Nothing was found."])


def _allowed(app: Any, assistant: str, user: str, groups: tuple[str, ...]) -> tuple[dict[str, str], frozenset[str]]:
    from affinage.declarations.repository import get_assistant
    from affinage.identity.directory import reader_of
    from affinage.identity.rights import may_read
    from affinage.index.builds import serving_generations

    with app.database.read() as connection:
        who = reader_of(connection, user=user, groups=groups)
        spec = get_assistant(connection, assistant)
        if not may_read(who.principals, spec.audience()):
            # The very words for an assistant that does not exist: nobody learns of it.
            raise UnknownObjectError("assistant", assistant, hint="Declare it in YAML and run `affinage apply -f FILE`.")
        return serving_generations(connection, spec.sources), who.principals
