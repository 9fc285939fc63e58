"""From exposures and feedback in the database to events in order; and decision records that can be replayed.

Confirmatory is the first rating of a unit at a stage; `replay` drops the later ones. A rating counts for the stage at
which its answer was given, whenever it arrives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from affinage.database.tables.answers import answer
from affinage.database.tables.experiments import exposure
from affinage.database.tables.feedback import feedback
from affinage.experiments.events import EXPOSURE, RATING, Event
from affinage.experiments.replay import ReplayResult, TestConfig, replay

_COLUMNS = ("seq", "unit", "arm", "q", "kind", "value", "stage", "at")


def read_evidence(connection: Connection, experiment_id: str) -> list[Event]:
    """All exposures and ratings of the experiment, in the order in which they were stored."""
    exposures = connection.execute(select(exposure).where(exposure.c.experiment_id == experiment_id)).all()
    by_unit: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in sorted(exposures, key=lambda e: e.stage):
        by_unit[row.unit].append(row)
    # At one instant an exposure comes before a rating of it; then ids make the order definite.
    found = [((e.created_at, 0, f"{e.unit}/{e.stage}"), _event(e, EXPOSURE, 1.0, e.created_at)) for e in exposures]
    for rating in _ratings(connection, experiment_id):
        seen = _exposure_of(rating, by_unit.get(rating.unit, ()))
        if seen is not None:
            event = _event(seen, RATING, 1.0 if rating.rating == "up" else 0.0, rating.created_at)
            found.append(((rating.created_at, 1, rating.feedback_id), event))
    found.sort(key=lambda pair: pair[0])
    return [replace(event, seq=seq) for seq, (_, event) in enumerate(found, start=1)]


def _ratings(connection: Connection, experiment_id: str) -> Sequence[Row[Any]]:
    query = (
        select(
            feedback.c.feedback_id,
            feedback.c.rating,
            feedback.c.created_at,
            answer.c.answer_id,
            answer.c.unit,
            answer.c.created_at.label("answered_at"),
        )
        .join(answer, answer.c.answer_id == feedback.c.answer_id)
        .where(answer.c.experiment_id == experiment_id, feedback.c.rating.is_not(None), feedback.c.origin == "user")
    )
    return connection.execute(query).all()


def _exposure_of(rating: Row[Any], exposures: Sequence[Row[Any]]) -> Row[Any] | None:
    began = [e for e in exposures if e.answer_id == rating.answer_id or e.created_at <= rating.answered_at]
    return began[-1] if began else None


def _event(row: Row[Any], kind: str, value: float, at: datetime) -> Event:
    return Event(seq=0, unit=row.unit, arm=row.arm, q=row.q, kind=kind, value=value, stage=row.stage, at=at)


def latest_served(connection: Connection, assistant: str) -> str | None:
    """The variant of the assistant's newest answer outside experiments; None when it has not answered."""
    query = select(answer.c.variant_id).where(answer.c.assistant == assistant, answer.c.experiment_id.is_(None))
    found: str | None = connection.execute(query.order_by(answer.c.created_at.desc(), answer.c.answer_id).limit(1)).scalar()
    return found


def decision_inputs(
    events: Sequence[Event], config: TestConfig, result: ReplayResult, *, started_at: datetime, ended_at: datetime
) -> dict[str, Any]:
    """Everything the verdict follows from. Units are replaced by numbers: the record outlives the right to a pseudonym."""
    numbers: dict[str | None, int] = {}
    rows = [
        [e.seq, numbers.setdefault(e.unit, len(numbers)), e.arm, e.q, e.kind, e.value, e.stage, e.at.isoformat() if e.at else None]
        for e in events
    ]
    return {
        "config": config.as_dict(),
        "started_at": started_at.isoformat(),
        "ended_at": ended_at.isoformat(),
        "columns": list(_COLUMNS),
        "events": rows,
        "result": result.as_dict(),
    }


def replay_decision(inputs: Mapping[str, Any]) -> ReplayResult:
    """Decide again from a decision record; equal to its `result` to 1e-9."""
    events = [
        Event(seq, str(unit), arm, q, kind, value, stage, None if at is None else datetime.fromisoformat(at))
        for seq, unit, arm, q, kind, value, stage, at in inputs["events"]
    ]
    return replay(
        events,
        TestConfig(**inputs["config"]),
        started_at=datetime.fromisoformat(inputs["started_at"]),
        ended_at=datetime.fromisoformat(inputs["ended_at"]),
    )
