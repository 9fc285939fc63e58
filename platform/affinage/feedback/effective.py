"""Which submission counts when a user changed their mind. Pure.

The latest submission of each kind (rating with its reasons, comment, correction, preference, ranking, spans) of one
user on one answer counts; earlier ones stay in the history. A submission that leaves a kind out does not revoke it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

KINDS = ("rating", "comment", "correction", "preferred_over", "ranking", "spans")


@dataclass(frozen=True)
class Effective:
    """What one user says of one answer now. `feedback_ids` maps each kind to the submission that it comes from."""

    answer_id: str
    user: str
    rating: str | None = None
    reasons: tuple[str, ...] = ()
    comment: str | None = None
    correction: str | None = None
    preferred_over: str | None = None
    ranking: tuple[str, ...] | None = None
    spans: tuple[Mapping[str, Any], ...] | None = None
    regenerated: bool = False
    feedback_ids: Mapping[str, str] = field(default_factory=dict)
    said_at: Mapping[str, datetime] = field(default_factory=dict)


def effective(submissions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Effective]:
    """What counts, by (user, answer).

    Parameters
    ----------
    submissions
        Stored rows in any order; ties of `created_at` are broken by `feedback_id`.
    """
    result: dict[tuple[str, str], Effective] = {}
    for row in sorted(submissions, key=lambda row: (row["created_at"], row["feedback_id"])):
        key = (row["user_name"], row["answer_id"])
        result[key] = _superseded(result.get(key) or Effective(answer_id=row["answer_id"], user=row["user_name"]), row)
    return result


def _superseded(before: Effective, row: Mapping[str, Any]) -> Effective:
    kinds = ["regeneration"] if row["origin"] == "regeneration" else [kind for kind in KINDS if row[kind] is not None]
    changes: dict[str, Any] = {}
    for kind in kinds:
        if kind == "regeneration":
            changes["regenerated"] = True
        elif kind in ("ranking", "spans"):
            changes[kind] = tuple(row[kind])
        else:
            changes[kind] = row[kind]
        if kind == "rating":
            changes["reasons"] = tuple(row["reasons"])
    return replace(
        before,
        **changes,
        feedback_ids={**before.feedback_ids, **dict.fromkeys(kinds, row["feedback_id"])},
        said_at={**before.said_at, **dict.fromkeys(kinds, row["created_at"])},
    )
