"""`affinage source`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit, note
from affinage.declarations.model import SourceSpec
from affinage.declarations.repository import get_source, list_sources
from affinage.errors import AffinageError, DocumentError

if TYPE_CHECKING:
    from affinage.documents.extraction import Extract
    from affinage.documents.sources import Places

sources = typer.Typer(no_args_is_help=True, help="Places documents come from.\n\nExample: affinage source check handbook")

COUNTS = ("documents", "readable", "denied", "unsupported")


@sources.command("list")
def list_(json_output: JsonFlag = False) -> None:
    """Show the declared sources, and what a listing tells of them: no document is opened.

    Here `readable` counts the documents whose format is supported; `source check` opens and reads each.

    Example: affinage source list
    """
    with installation() as app:
        with app.database.read() as connection:
            specs = list_sources(connection)
        found = [_listed(spec, app.places) for spec in specs]
    if not found:
        note("No source is declared. Declare one in YAML and run `affinage apply -f FILE`.")
    totals = {key: sum(source.get(key) or 0 for source in found) for key in COUNTS}
    lines = [f"{s['name']}  {s['kind']}  {s['place']}  " + (s["error"] or ", ".join(f"{s[key]} {key}" for key in COUNTS)) for s in found]
    emit({"sources": found, **totals}, as_json=json_output, lines=lines)


@sources.command("check")
def check(name: str, json_output: JsonFlag = False) -> None:
    """Read every document of source NAME and count what can be used.

    `readable`: text was extracted. `denied`: no rule lets anybody read it. `unsupported`: no such format is known.

    Example: affinage source check handbook
    """
    with installation() as app:
        with app.database.read() as connection:
            spec = get_source(connection, name)
        counts, failures = _check(spec, app.places, extract=app.extraction.extract)
    lines = [", ".join(f"{counts[key]} {key}" for key in COUNTS)]
    lines += [f"{failure['path']}: {failure['message']} {failure['hint']}".rstrip() for failure in failures]
    emit({"source": name, **counts, "failures": failures}, as_json=json_output, lines=lines)


def _listed(spec: SourceSpec, places: Places) -> dict[str, Any]:
    from affinage.documents.extraction import format_of
    from affinage.documents.sources import allow_of

    counts = dict.fromkeys(COUNTS, 0)
    error = None
    try:
        source = places.open(spec)
        allow = allow_of(spec, source)
        for listed in source.listing():
            supported = format_of(listed.path) is not None
            counts["documents"] += 1
            counts["readable"] += supported
            counts["unsupported"] += not supported
            counts["denied"] += not allow(listed)
    except AffinageError as failed:
        # One source that cannot be listed must not hide the others.
        error = str(failed)
        counts = dict.fromkeys(COUNTS, 0)
    return {"name": spec.name, "kind": spec.kind, "place": spec.place, "organisation": spec.organisation, **counts, "error": error}


def _check(spec: SourceSpec, places: Places, *, extract: Extract) -> tuple[dict[str, int], list[dict[str, str]]]:
    from affinage.documents.sources import allow_of

    source = places.open(spec)
    allow = allow_of(spec, source)
    counts = dict.fromkeys(COUNTS, 0)
    failures: list[dict[str, str]] = []
    for listed in source.listing():
        counts["documents"] += 1
        counts["denied"] += not allow(listed)
        try:
            extract(source.read(listed.path, listed=listed.signature), path=listed.path, xml=spec.xml)
            counts["readable"] += 1
        except DocumentError as failed:
            counts["unsupported"] += failed.reason == "unsupported"
            failures.append({"path": listed.path, "reason": failed.reason, "message": failed.message, "hint": failed.hint})
    return counts, failures
