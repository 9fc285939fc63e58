"""An assistant with a champion and a candidate, and people who ask and rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from affinage.answers.variant import Variant
from affinage.database.engine import Database
from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.declarations.model import RolloutSpec
from affinage.experiments.repository import Experiment
from affinage.experiments.routing import Assignment, assign, earlier_arms, load_routing, record_exposure
from affinage.experiments.start import start_experiment
from affinage.registry.countersign import countersign
from affinage.registry.moves import move_champion
from affinage.registry.variants import save_variant
from tests.conftest import Clock


def variant(name: str, *, adapter: bool = False, assistant: str = "appels") -> Variant:
    return Variant(
        assistant=assistant,
        engine="package:smollm2",
        base_digest="b" * 64,
        adapter=f"{assistant}@{name:0>8}" if adapter else None,
        adapter_digest=name * 8 if adapter else None,
        prompt_digest=name,
    )


@dataclass
class World:
    """The database with `control` as champion, and a way to let people act."""

    database: Database
    clock: Clock
    new_id: Callable[[], str]
    control: str
    candidate: str
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def start(self, **more: Any) -> Experiment:
        given: dict[str, Any] = {"rollout": RolloutSpec(shares=(0.5,), min_units=0, min_days=0), "name": "tone-1", **more}
        return start_experiment(
            self.database, assistant="appels", candidate=self.candidate, now=self.clock, new_id=self.new_id, actor="test", **given
        )

    def ask(self, unit: str | None, *, within: Connection | None = None) -> tuple[str, Assignment]:
        """One answer for `unit`, as the gateway would give it."""
        self.clock.advance(seconds=1)
        answer_id = f"answer-{next(self._numbers):05d}"
        with self._write(within) as connection:
            table = load_routing(connection)
            running = table.experiments.get("appels")
            seen = earlier_arms(connection, experiment_id=running.experiment_id, unit=unit) if running and unit else {}
            drawn = assign(table, "appels", unit, seen)
            values = {
                "answer_id": answer_id,
                "organisation": "default",
                "assistant": "appels",
                "user_name": f"name-of-{unit}",
                "unit": unit or "",
                "messages": [],
                "question": "q",
                "text": "t",
                "language": "fr",
                "known": True,
                "citations": [],
                "passages": [],
                "prompt_digest": "p",
                "generations": {},
                "variant_id": drawn.variant_id or self.control,
                "adapter": None,
                "experiment_id": drawn.experiment_id,
                "arm": drawn.arm,
                "q": drawn.q,
                "regenerates": None,
                "guardrails": {},
                "input_tokens": 1,
                "output_tokens": 1,
                "seconds": 0.1,
                "created_at": self.clock(),
            }
            connection.execute(insert(answer).values(**values))
            record_exposure(connection, assignment=drawn, unit=unit, answer_id=answer_id, now=self.clock())
        return answer_id, drawn

    def rate(self, answer_id: str, up: bool, *, origin: str = "user", within: Connection | None = None) -> None:
        """The rating of an answer."""
        self.clock.advance(seconds=1)
        with self._write(within) as connection:
            values = {
                "feedback_id": f"feedback-{next(self._numbers):05d}",
                "answer_id": answer_id,
                "user_name": "somebody",
                "rating": "up" if up else "down",
                "reasons": [],
                "origin": origin,
                "body_digest": "d",
                "created_at": self.clock(),
            }
            connection.execute(insert(feedback).values(**values))

    def crowd(self, n: int, *, like: str | None, first: int = 0) -> None:
        """`n` new people ask and rate: up in the arm `like`, down in the other; with None everybody is pleased."""
        with self.database.write() as connection:
            for i in range(first, first + n):
                answer_id, drawn = self.ask(f"unit-{i}", within=connection)
                self.rate(answer_id, like is None or drawn.arm == like, within=connection)

    def _write(self, within: Connection | None) -> AbstractContextManager[Connection]:
        return self.database.write() if within is None else nullcontext(within)


@pytest.fixture
def world(database: Database, clock: Clock, new_id: Callable[[], str]) -> World:
    control, candidate = variant("c"), variant("n", adapter=True)
    with database.write() as connection:
        for each in (control, candidate):
            save_variant(connection, each, organisation="default", now=clock())
        countersign(connection, variant_id=candidate.variant_id, gate_id="gate-1", now=clock())
        move_champion(
            connection, assistant="appels", to=control.variant_id, actor="test", reason="first", now=clock(), new_id=new_id, kind="default"
        )
    return World(database, clock, new_id, control.variant_id, candidate.variant_id)
