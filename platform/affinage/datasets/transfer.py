"""Snapshots out and in: JSON lines of ours, or chat lines as hosted fine-tuning services read and write them.

The test split never leaves: whoever trains elsewhere must not have seen what the gate asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from affinage.answers.prompts import neutralised
from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.datasets.build import curate, settle
from affinage.datasets.candidates import Candidate
from affinage.datasets.examples import canonical_target
from affinage.datasets.filters import OPEN_LICENCES
from affinage.datasets.read import load_rows
from affinage.datasets.rows import KtoRow, PairRow, Row, SftRow, row_to_line
from affinage.datasets.snapshots import Snapshot
from affinage.declarations.model import AssistantSpec
from affinage.errors import RefusedError, UsageError

Form = Literal["rows", "chat"]
IMPORTABLE = ("sft", "extraction", "classification", "dpo")
OWN = "own"
# Rows that the organisation's own people wrote.


def export_lines(blobs: BlobStore, snapshot: Snapshot, *, form: Form = "rows") -> Iterator[str]:
    """Training and validation rows, one line each with its line end.

    Parameters
    ----------
    form
        `rows` is our own; `chat` has `messages` ending with the assistant's turn (pairs: `input`, `preferred_output`,
        `non_preferred_output`).

    Raises
    ------
    RefusedError
        If somebody in the snapshot was forgotten since.
    """
    if snapshot.tainted:
        raise RefusedError(
            f"Dataset `{snapshot.dataset_id}` holds less than it was built from: a user was forgotten.", hint="Build the dataset again."
        )
    for row in load_rows(blobs, snapshot):
        if row.split != "test":
            yield (row_to_line(row) if form == "rows" else json.dumps(_chat(row), ensure_ascii=False)) + "\n"


def _chat(row: Row) -> dict[str, Any]:
    if isinstance(row, SftRow):
        return {"messages": [*_turns(row), {"role": "assistant", "content": row.target}]}
    if isinstance(row, PairRow):
        return {
            "input": {"messages": _turns(row)},
            "preferred_output": [{"role": "assistant", "content": row.chosen}],
            "non_preferred_output": [{"role": "assistant", "content": row.rejected}],
        }
    if isinstance(row, KtoRow):
        return {"messages": [*_turns(row), {"role": "assistant", "content": row.completion}], "label": row.desirable}
    raise UsageError("Embedding rows have no chat form.", hint="Export them with `--format rows`.")


def _turns(row: SftRow | PairRow | KtoRow) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in row.messages]


def import_dataset(
    database: Database,
    blobs: BlobStore,
    text: str,
    *,
    assistant: AssistantSpec,
    kind: str,
    licence: str,
    now: Callable[[], datetime],
    audience: Sequence[str] | None = None,
) -> Snapshot:
    """Make a snapshot of chat lines (or of our own exported rows); the filters and the split are the same.

    Parameters
    ----------
    licence
        Of the rows: `own` (people of the organisation wrote them) or an open licence.
    audience
        Who may meet what is trained from it, stated by the person who imports; default: the assistant's audience.

    Raises
    ------
    UsageError
        If the kind cannot be imported, or the licence does not allow to learn from the rows.
    RefusedError
        If too few rows are left.
    """
    if kind not in IMPORTABLE:
        raise UsageError(f"Datasets of kind `{kind}` cannot be imported.", hint=f"Kinds: {', '.join(IMPORTABLE)}.")
    if licence != OWN and licence.lower() not in OPEN_LICENCES:
        raise UsageError(
            f"The licence `{licence}` is not known to allow training.",
            hint=f"Licences: {OWN}, {', '.join(OPEN_LICENCES)}.",
            param="licence",
        )
    readers = tuple(sorted(set(assistant.audience() if audience is None else audience)))
    candidates = [replace(_candidate(line, kind=kind, assistant=assistant), allow=frozenset(readers)) for line in _lines(text)]
    curated = curate(candidates, assistant=assistant, audience=readers, licences={})
    return settle(database, blobs, curated, assistant=assistant, kind=kind, audience=readers, now=now, found=len(candidates))  # type: ignore[arg-type]


def _lines(text: str) -> Iterator[object]:
    for line in text.split("\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield line


def _candidate(line: object, *, kind: str, assistant: AssistantSpec) -> Candidate:
    try:
        payload, target, failed = _payload(line, kind=kind, assistant=assistant)
        question = next(turn["content"] for turn in reversed(payload["messages"]) if turn["role"] == "user")
        written = "\n".join([*(turn["content"] for turn in payload["messages"] if turn["role"] == "user"), target])
        written.encode()
    except (KeyError, TypeError, IndexError, ValueError, StopIteration, AttributeError):
        # Surrogates cannot be stored: keep the row's shape, escaped, as its identity.
        payload = {"line": json.dumps(line, sort_keys=True)}
        question, target, failed, written = "?", "?", "schema", ""
    return Candidate(kind=kind, payload=payload, question=question, target=target, origin="import", own_text=written, failed=failed)  # type: ignore[arg-type]


def _payload(line: Any, *, kind: str, assistant: AssistantSpec) -> tuple[dict[str, Any], str, str | None]:
    if kind == "dpo":
        if "preferred_output" in line:
            messages, (chosen,), (rejected,) = line["input"]["messages"], line["preferred_output"], line["non_preferred_output"]
            pair = {"chosen": _content(chosen), "rejected": _content(rejected)}
        else:
            messages, pair = line["messages"], {key: _content({"content": line[key]}) for key in ("chosen", "rejected")}
        payload = {"messages": [_turn(message) for message in messages], **pair}
        return payload, pair["chosen"], None
    messages, target = (
        (line["messages"], _content({"content": line["target"]}))
        if "target" in line
        else (line["messages"][:-1], _reply(line["messages"][-1]))
    )
    failed = None
    if kind in ("extraction", "classification"):
        target, failed = canonical_target(target, assistant.answer_schema)
    return {"messages": [_turn(message) for message in messages], "target": target}, target, failed


def _reply(message: Mapping[str, Any]) -> str:
    if message["role"] != "assistant":
        raise ValueError("the last turn must be the assistant's")
    return _content(message)


def _content(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if not isinstance(content, str):
        raise TypeError("only text can be imported")
    return neutralised(content)


def _turn(message: Mapping[str, Any]) -> dict[str, str]:
    if message["role"] not in ("system", "user", "assistant"):
        raise ValueError("unknown role")
    return {"role": message["role"], "content": _content(message)}
