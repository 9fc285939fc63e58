"""`affinage demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit, note


def demo(
    docs: Annotated[Path | None, typer.Option("--docs", help="Your own folder of documents; it is copied, never written.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Run the whole loop on this machine and print the figures; a few minutes, offline.

    Example: affinage demo --docs ~/handbook
    """
    from affinage.demo.tour import run

    with installation() as app:
        own = docs.expanduser().absolute() if docs else None
        report = run(app, own_documents=own, say=note if json_output else typer.echo)
    minutes, seconds = divmod(round(report["seconds"]), 60)
    peak = f"{report['peak_rss_bytes'] / 2**30:.1f} GiB"
    emit(
        report,
        as_json=json_output,
        lines=["", f"Done in {minutes} min {seconds} s, peak memory {peak}.", "See it in a browser: affinage up"],
    )
