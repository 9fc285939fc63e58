"""Foreign feedback files, read into our words. Pure.

Three shapes are known: our own export (JSON lines), TensorZero's feedback tables and requests (`target_id` or
`inference_id`, `metric_name`, `value`), and Open WebUI's feedback export (`data`, `meta`, `snapshot`). A row that none
of them explains is given back with a reason, never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MAX_LINE_CHARS = 4_000_000
# A whole chat travels with each row of Open WebUI; longer ones are rejected, not parsed.


class UnreadableRowError(Exception):
    """A row that cannot be taken over; `reason` is a bounded word for the report."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Read:
    """One foreign submission. Without `answer_id` the answer is looked up by what was asked and said."""

    feedback_id: str
    said: Mapping[str, Any]
    at: datetime | None
    answer_id: str | None = None
    user: str | None = None
    model: str | None = None
    question: str | None = None
    text: str | None = None
    origin: str = "import"
    extra: Mapping[str, Any] = field(default_factory=dict)


def rows_of(text: str) -> Iterator[tuple[int, object]]:
    """(line or position, decoded row) of a JSON array or of JSON lines; a line that is not JSON comes as its text."""
    if text.lstrip()[:1] == "[":
        try:
            yield from enumerate(json.loads(text), start=1)
            return
        except (ValueError, RecursionError):
            pass  # perhaps lines that are arrays: each one is then rejected by itself
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_CHARS:
            yield number, line
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            yield number, line


def read_row(row: object) -> Read:
    """Our words for one foreign row.

    Raises
    ------
    UnreadableRowError
        With the reason `not_json`, `unknown_shape`, `episode`, `no_judgement` or `wrong_value`.
    """
    if not isinstance(row, Mapping):
        raise UnreadableRowError("not_json")
    if "feedback_id" in row:
        return _ours(row)
    if isinstance(row.get("data"), Mapping) and "type" in row:
        return _open_webui(row)
    if "value" in row and ({"target_id", "inference_id", "episode_id"} & set(row)):
        return _tensorzero(row)
    raise UnreadableRowError("unknown_shape")


def _ours(row: Mapping[str, Any]) -> Read:
    keys = ("rating", "reasons", "comment", "correction", "preferred_over", "ranking", "spans")
    said = {key: row[key] for key in keys if row.get(key) not in (None, [])}
    origin = row.get("origin", "import")
    return Read(
        feedback_id=_text(row["feedback_id"]),
        said=said,
        at=_instant(row.get("at")),
        answer_id=_text(row.get("answer_id")),
        user=_text(row.get("user")),
        origin=origin if origin in ("user", "regeneration") else "import",
    )


def _tensorzero(row: Mapping[str, Any]) -> Read:
    if row.get("target_type") == "episode" or ("episode_id" in row and not {"target_id", "inference_id"} & set(row)):
        raise UnreadableRowError("episode")
    value, metric, tags = row["value"], row.get("metric_name"), row.get("tags")
    if metric == "demonstration" or (metric is None and "inference_id" in row):
        said: dict[str, Any] = {"correction": _demonstration(value)}
    elif metric == "comment" or (metric is None and "target_type" in row):
        said = {"comment": _text(value)}
    elif isinstance(value, bool):
        said = {"rating": "up" if value else "down"}
    else:
        # A float metric has a meaning of its own that no rating keeps.
        raise UnreadableRowError("no_judgement")
    target = _text(row.get("target_id", row.get("inference_id")))
    answer_id = tags.get("affinage_answer_id", target) if isinstance(tags, Mapping) else target
    own = row.get("id") or f"{target}:{metric or 'demonstration'}"
    return Read(feedback_id=f"tensorzero:{_text(own)}", said=said, at=_instant(row.get("timestamp")), answer_id=_text(answer_id))


def _demonstration(value: object) -> str:
    """The text of a demonstration: a string, JSON of content blocks, or JSON of a structured output."""
    decoded = value
    if isinstance(value, str):
        try:
            decoded = json.loads(value)
        except ValueError:
            return value
    if isinstance(decoded, list):
        texts = [block.get("text") for block in decoded if isinstance(block, Mapping) and block.get("type") == "text"]
        if texts and len(texts) == len(decoded) and all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
        raise UnreadableRowError("wrong_value")
    if isinstance(decoded, Mapping):
        raw = decoded.get("raw")
        return raw if isinstance(raw, str) else json.dumps(decoded, ensure_ascii=False)
    return _text(value)


def _open_webui(row: Mapping[str, Any]) -> Read:
    data = row["data"]
    meta = _mapping(row.get("meta"))
    rating = {1: "up", -1: "down", "1": "up", "-1": "down"}.get(data.get("rating"))
    notes = [data.get("comment"), f"[reason] {data['reason']}" if data.get("reason") else None]
    comment = "\n".join(_text(note) for note in notes if note)
    if rating is None and not comment:
        raise UnreadableRowError("no_judgement")
    said = {key: value for key, value in (("rating", rating), ("comment", comment or None)) if value is not None}
    question, text = _exchange(row.get("snapshot"), message_id=meta.get("message_id"))
    return Read(
        feedback_id=f"openwebui:{_text(row.get('id'))}",
        said=said,
        at=_instant(row.get("created_at")),
        answer_id=_mapping(meta.get("affinage")).get("answer_id"),
        model=data.get("model_id") or meta.get("model_id"),
        question=question,
        text=text,
    )


def _exchange(snapshot: object, *, message_id: object) -> tuple[str | None, str | None]:
    """The question and the answer that the row is about, from the chat that travels with it."""
    try:
        messages = snapshot["chat"]["chat"]["history"]["messages"]  # type: ignore[index]
        reply = messages[message_id]
        return str(messages[reply["parentId"]]["content"]), str(reply["content"])
    except (KeyError, TypeError, IndexError):
        return None, None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UnreadableRowError("wrong_value")
    return value


def _instant(value: object) -> datetime | None:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise UnreadableRowError("wrong_value") from None
    return None
