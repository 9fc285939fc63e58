"""Feedback as JSON lines: one submission a line, with the keys of `feedback list`, superseded ones included."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection

from affinage.feedback.listing import stream_feedback


def export_lines(connection: Connection, *, assistant: str | None = None) -> Iterator[str]:
    """Lines (each with its line end), oldest first."""
    for row in stream_feedback(connection, assistant=assistant):
        yield json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
