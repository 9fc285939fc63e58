"""Build a snapshot: judged answers become candidates, filters and split decide, what is left is stored.

Called by the command line, tuning and the demo. Reading and deciding happen outside any transaction; the split is
written together with the snapshot, and decided again when another build wrote sides in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import Any, cast

from sqlalchemy import Connection, insert, select

from affinage.answers.prompts import load_prompt
from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.database.tables.datasets import split_side
from affinage.datasets import filters
from affinage.datasets.candidates import Candidate, Rejected
from affinage.datasets.examples import Context, candidates_of
from affinage.datasets.quotes import ledger_chunks, quoted_chunks
from affinage.datasets.rows import ROW_TYPES, Kind, Row, Split, row_from_json
from affinage.datasets.select import answer_texts, engine_licences, engines_of_variants, judged_answers
from affinage.datasets.snapshots import Snapshot, blob_name, counts_of, save_snapshot, snapshot_bytes
from affinage.datasets.splits import FRACTIONS, Division, Splittable, divide
from affinage.declarations.model import AssistantSpec
from affinage.documents.languages import detect
from affinage.errors import ConflictError, RefusedError, UsageError
from affinage.identity.directory import reader_of
from affinage.index.generations import serving_generations
from affinage.index.passages import Passage
from affinage.index.reading import current_passage

MIN_EMBEDDING_ROWS = 50
# Training pairs below which an embedding adapter learnt nothing in our measurements.
DETECTED_LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")
# What a target is told apart from; the assistant's own languages are added.
ATTEMPTS = 5


@dataclass
class Curation:
    """Rows that are kept, and every row that is not, with its reason."""

    kept: list[Candidate]
    rejected: list[Rejected] = field(default_factory=list)

    def step(self, result: tuple[list[Candidate], list[Rejected]]) -> None:
        """Go on with what a filter kept."""
        self.kept, dropped = result
        self.rejected += dropped

    def reasons(self) -> dict[str, int]:
        """How many rows were left out, by reason."""
        return dict(sorted(Counter(row.reason for row in self.rejected).items()))


class _SidesMovedError(Exception):
    """Another build stored sides while this one decided."""


def build_dataset(
    database: Database,
    blobs: BlobStore,
    *,
    assistant: AssistantSpec,
    kind: Kind,
    now: Callable[[], datetime],
    audience: Sequence[str] | None = None,
) -> Snapshot:
    """Build the snapshot of this kind from all feedback there is now.

    Parameters
    ----------
    audience
        Principals who may meet what is trained from it; default: everyone who may use the assistant. A row is left out
        when somebody among them may not read what it was made from.

    Returns
    -------
    Snapshot
        The same one again when nothing changed.

    Raises
    ------
    UsageError
        If the kind needs an answer schema or sources, and the assistant has none.
    RefusedError
        If too few rows are left; the message says how many are missing. Fields: kind, counts, rejected.
    """
    _check_kind(assistant, kind)
    readers = tuple(sorted(set(assistant.audience() if audience is None else audience)))
    with database.read() as connection:
        candidates = gather(connection, assistant=assistant, kind=kind, audience=readers)
        licences = engine_licences(connection)
    curated = curate(candidates, assistant=assistant, audience=readers, licences=licences)
    return settle(database, blobs, curated, assistant=assistant, kind=kind, audience=readers, now=now, found=len(candidates))


def settle(
    database: Database,
    blobs: BlobStore,
    curated: Curation,
    *,
    assistant: AssistantSpec,
    kind: Kind,
    audience: tuple[str, ...],
    now: Callable[[], datetime],
    found: int,
) -> Snapshot:
    """Split the curated rows and store them as a snapshot.

    Raises
    ------
    RefusedError
        If too few rows are left.
    ConflictError
        If other builds kept changing the split.
    """
    for _ in range(ATTEMPTS):
        with database.read() as connection:
            stored = stored_sides(connection, assistant=assistant.name)
        final, division = place(curated, stored=stored)
        try:
            return _store(
                database, blobs, final, division, stored=stored, assistant=assistant, kind=kind, audience=audience, now=now, found=found
            )
        except _SidesMovedError:
            continue
    raise ConflictError(f"Other builds for `{assistant.name}` kept changing the split.", hint="Run the command again.", retryable=True)


def gather(connection: Connection, *, assistant: AssistantSpec, kind: Kind, audience: Sequence[str]) -> list[Candidate]:
    """Every candidate row of this kind, from what the answers' users may read now."""
    judged = judged_answers(connection, assistant=assistant.name)
    generations = serving_generations(connection, assistant.sources)
    corrections = {j.answer["answer_id"]: j.said.correction for j in judged if j.said.correction is not None}
    wants_quotes = kind == "embedding" and corrections
    siblings = {j.said.preferred_over: j.said.user for j in judged if j.said.preferred_over is not None}
    context = Context(
        spec=assistant,
        audience=audience,
        prompt=load_prompt(assistant.prompt),
        passage_of=_passages(connection, generations),
        quoted=quoted_chunks(corrections, ledger_chunks(connection, generations.values())) if wants_quotes else {},
        sibling_texts=answer_texts(connection, assistant=assistant.name, user_of=siblings),
        engine_of=engines_of_variants(connection, assistant=assistant.name),
        improved=frozenset(str(j.answer["regenerates"]) for j in judged if j.said.rating == "up" and j.answer["regenerates"]),
    )
    return [candidate for one in judged for candidate in candidates_of(kind, one, context)]


def curate(candidates: Sequence[Candidate], *, assistant: AssistantSpec, audience: Sequence[str], licences: Mapping[str, str]) -> Curation:
    """All filters in their order. Pure but for language identification."""
    among = tuple(dict.fromkeys((*assistant.languages, *DETECTED_LANGUAGES)))
    single: tuple[Callable[[Candidate], str | None], ...] = (
        lambda row: row.failed,
        filters.empty,
        filters.length,
        filters.references,
        filters.exact_quotes,
        partial(filters.language, languages=assistant.languages, detect=lambda text: detect(text, among=among)),
        filters.personal,
        partial(filters.licence, licences=dict(licences)),
        partial(filters.rights, audience=audience),
    )
    curation = Curation(sorted(candidates, key=lambda row: row.order))
    for reason_of in single:
        curation.step(filters.split_off(curation.kept, reason_of))
    curation.step(filters.near_duplicates(curation.kept, within_user=True))
    curation.step(filters.cap_rows(curation.kept))
    curation.step(filters.contradictions(curation.kept))
    curation.step(filters.near_duplicates(curation.kept, within_user=False))
    curation.step(filters.cap_share(curation.kept))
    return curation


def place(curated: Curation, *, stored: Mapping[str, Split]) -> tuple[Curation, Division]:
    """Put the curated rows on their sides. Pure."""
    rows = [Splittable(row.example_id, row.user, row.doc_keys, row.question) for row in curated.kept]
    division = divide(rows, stored=stored)
    final = Curation(list(curated.kept), list(curated.rejected))
    final.step(filters.split_off(final.kept, lambda row: "split" if row.example_id in division.dropped else None))
    # The split took rows away, so the same number of rows may be a larger share now.
    final.step(filters.cap_share(final.kept))
    return final, division


def stored_sides(connection: Connection, *, assistant: str) -> dict[str, Split]:
    """Sides of everything seen in earlier snapshots of this assistant."""
    rows = connection.execute(select(split_side.c.group_id, split_side.c.split).where(split_side.c.assistant == assistant))
    return {row.group_id: cast("Split", row.split) for row in rows}


def _store(
    database: Database,
    blobs: BlobStore,
    final: Curation,
    division: Division,
    *,
    stored: Mapping[str, Split],
    assistant: AssistantSpec,
    kind: Kind,
    audience: tuple[str, ...],
    now: Callable[[], datetime],
    found: int,
) -> Snapshot:
    rows = [_row(candidate, division.side_of[candidate.example_id]) for candidate in final.kept]
    rejected = final.reasons()
    counts = counts_of(rows, rejected)
    _refuse_too_few(assistant, kind, counts, rejected)
    data = snapshot_bytes({"assistant": assistant.name, "kind": kind, "audience": list(audience)}, rows)
    rejects = _rejects_bytes(final.rejected)
    blobs.put(blob_name(data), data)
    blobs.put(blob_name(rejects), rejects)
    digest = blob_name(data).removeprefix("datasets/").removesuffix(".jsonl")
    snapshot = Snapshot(
        dataset_id=f"{assistant.name}.{kind}.{digest[:12]}",
        digest=digest,
        organisation=assistant.organisation,
        assistant=assistant.name,
        kind=kind,
        audience=audience,
        counts=counts,
        rejected=rejected,
        manifest={**_manifest(final.kept, found=found), "rejects": blob_name(rejects)},
        blob=blob_name(data),
        tainted=False,
        created_at=now(),
    )
    with database.write() as connection:
        if stored_sides(connection, assistant=assistant.name) != stored:
            raise _SidesMovedError
        new = [{"assistant": assistant.name, "group_id": g, "split": s} for g, s in sorted(division.sides.items()) if g not in stored]
        if new:
            connection.execute(insert(split_side), new)
        return save_snapshot(connection, snapshot, rows, user_of={row.example_id: row.user for row in final.kept})


def _check_kind(assistant: AssistantSpec, kind: Kind) -> None:
    if kind not in ROW_TYPES:
        raise UsageError(f"`{kind}` is not a kind of dataset.", hint=f"Kinds: {', '.join(ROW_TYPES)}.")
    if kind == "extraction" and assistant.answer_schema is None:
        raise UsageError(f"Assistant `{assistant.name}` has no `answer_schema`.", hint="Declare one, or build another kind.")
    if kind == "embedding" and not assistant.sources:
        raise UsageError(f"Assistant `{assistant.name}` has no sources to retrieve from.", hint="Build another kind.")


def _passages(connection: Connection, generations: Mapping[str, str]) -> Callable[[str, str], Passage | None]:
    @cache
    def principals(user: str) -> frozenset[str]:
        return reader_of(connection, user=user).principals

    @lru_cache(maxsize=20_000)
    def passage_of(chunk_id: str, user: str) -> Passage | None:
        return current_passage(connection, chunk_id, generations=generations, principals=principals(user))

    return passage_of


def _row(candidate: Candidate, side: Split) -> Row:
    values: dict[str, Any] = {
        **candidate.payload,
        "example_id": candidate.example_id,
        "split": side,
        "group": candidate.unit,
        "language": candidate.language,
        "origin": candidate.origin,
        "weight": candidate.weight,
        "answer_id": candidate.answer_id,
        "feedback_ids": list(candidate.feedback_ids),
        "doc_keys": list(candidate.doc_keys),
        "chunk_ids": list(candidate.chunk_ids),
        "chunk_digests": list(candidate.chunk_digests),
        "allow": sorted(candidate.allow),
    }
    return row_from_json(candidate.kind, values)


def _refuse_too_few(assistant: AssistantSpec, kind: Kind, counts: Mapping[str, int], rejected: Mapping[str, int]) -> None:
    needs_test = kind in ("sft", "extraction", "classification", "embedding")
    needed = MIN_EMBEDDING_ROWS if kind == "embedding" else assistant.tuning.min_examples if needs_test else 1
    reasons = []
    if counts["train"] < needed:
        missing = needed - counts["train"]
        reasons.append(f"{counts['train']} training rows, {needed} are needed: {missing} are missing")
    if needs_test and not counts["test"]:
        reasons.append("no test rows: nobody's feedback is independent of the training rows")
    if reasons:
        worst = ", ".join(f"{reason} {n}" for reason, n in sorted(rejected.items(), key=lambda item: -item[1]))
        raise RefusedError(
            f"The {kind} dataset of `{assistant.name}` has too few rows: {'; '.join(reasons)}.",
            reasons=reasons,
            hint=f"Collect more feedback. Rejected: {worst or 'nothing'}.",
            kind=kind,
            counts=dict(counts),
            rejected=dict(rejected),
        )


def _manifest(kept: Sequence[Candidate], *, found: int) -> dict[str, Any]:
    users = Counter(row.user for row in kept if row.user is not None)
    return {
        "candidates": found,
        "users": len(users),
        "largest_user_share": round(max(users.values()) / len(kept), 4) if users else 0.0,
        "documents": len({key for row in kept for key in row.doc_keys}),
        "origins": dict(sorted(Counter(row.origin for row in kept).items())),
        "languages": dict(sorted(Counter(row.language for row in kept).items())),
        "generators": sorted({row.generated_by for row in kept if row.generated_by is not None}),
        "limits": {
            "fractions": dict(FRACTIONS),
            "near_duplicate": filters.NEAR_DUPLICATE,
            "user_rows": filters.USER_ROWS,
            "user_share": filters.USER_SHARE,
        },
    }


def _rejects_bytes(rejected: Sequence[Rejected]) -> bytes:
    """Ids and reasons only: a row that was left out for its contents must not be kept in a file."""
    lines = sorted(
        f'{{"answer_id":"{row.candidate.answer_id}","example_id":"{row.candidate.example_id}","reason":"{row.reason}"}}\n'
        for row in rejected
    )
    return "".join(lines).encode()
