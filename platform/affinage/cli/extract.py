"""`affinage extract`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from affinage.cli.output import JsonFlag, emit
from affinage.documents.blocks import Block
from affinage.errors import UsageError


def extract(file: Annotated[Path, typer.Argument(help="A document.")], json_output: JsonFlag = False) -> None:
    """Show the blocks of text that are read out of FILE, in reading order.

    Example: affinage extract handbook/leave.pdf --json
    """
    from affinage.documents.extraction import MAX_BYTES
    from affinage.documents.extraction.pool import ExtractionPool

    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.", hint="Give the path of a document.") from error
    with ExtractionPool() as pool:
        document = pool.extract(data, path=file.name)
    result = {
        "title": document.title,
        "language": document.language,
        "blocks": [asdict(block) for block in document.blocks],
        "ocr_pages": list(document.ocr_pages),
    }
    lines = [f"# {document.title} ({document.language})", *(_line(block) for block in document.blocks)]
    emit(result, as_json=json_output, lines=lines)


def _line(block: Block) -> str:
    kind = f"{block.kind} {block.level}" if block.level else block.kind
    return f"[{kind}{f', page {block.page}' if block.page else ''}] {block.text}"
