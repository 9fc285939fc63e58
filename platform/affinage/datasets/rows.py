"""The rows of a snapshot, one class for each payload, and their JSON lines.

Each row names the feedback, answer and chunks it came from. `group` is the pseudonym of the user (clusters for
intervals); no user's name is written into a snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from affinage.engines.protocols import Message

Kind = Literal["sft", "dpo", "kto", "extraction", "classification", "embedding"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every row carries. `allow` is its access label; `weight` is below 1 for weak evidence."""

    example_id: str
    split: Split
    group: str = ""
    language: str = ""
    origin: str = ""
    weight: float = 1.0
    answer_id: str | None = None
    feedback_ids: tuple[str, ...] = ()
    doc_keys: tuple[str, ...] = ()
    chunk_ids: tuple[str, ...] = ()
    chunk_digests: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SftRow(Row):
    """Messages as production sends them, and the reply to learn (kinds sft, extraction, classification)."""

    messages: tuple[Message, ...]
    target: str


@dataclass(frozen=True, kw_only=True)
class PairRow(Row):
    """Two replies to the same messages, the better one first (kind dpo)."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class KtoRow(Row):
    """One reply and whether it was wanted (kind kto)."""

    messages: tuple[Message, ...]
    completion: str
    desirable: bool


@dataclass(frozen=True, kw_only=True)
class EmbeddingRow(Row):
    """A question and a chunk that answers it (kind embedding). `passage` is heading path and text, as it is embedded."""

    question: str
    passage: str
    chunk_id: str
    doc_key: str


ROW_TYPES: Mapping[str, type[Row]] = {
    "sft": SftRow,
    "extraction": SftRow,
    "classification": SftRow,
    "dpo": PairRow,
    "kto": KtoRow,
    "embedding": EmbeddingRow,
}


def row_to_line(row: Row) -> str:
    """Canonical JSON of `row`: the same row gives the same bytes."""
    return json.dumps(asdict(row), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def row_from_json(kind: str, values: Mapping[str, Any]) -> Row:
    """The row that `row_to_line` wrote."""
    row_type = ROW_TYPES[kind]
    read: dict[str, Any] = {}
    for field in fields(row_type):
        value = values[field.name]
        if field.name == "messages":
            read[field.name] = tuple(Message(**message) for message in value)
        else:
            read[field.name] = tuple(value) if isinstance(value, list) else value
    return row_type(**read)
