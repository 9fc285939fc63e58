"""Carry out a promotion or a rollback that was decided, however often the process is killed on the way.

The decision is on disk before anything moves (PROMOTING, ROLLING_BACK); the end is written after. In between, what has
already happened is read from the champion's pointer, so nothing happens twice. Called by `operate` only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy import Connection

from affinage.database.engine import Database
from affinage.experiments.policy import Step
from affinage.experiments.repository import Experiment, transition
from affinage.experiments.states import State
from affinage.registry.moves import move_champion, pointer_of, set_candidate


class Mover:
    """Finishes a promotion or a rollback that was decided; safe to repeat after a crash at any point."""

    def __init__(
        self,
        database: Database,
        *,
        promote: Callable[[str], None] | None,
        rollback: Callable[[], None] | None,
        ready: Callable[[str], AbstractContextManager[None]],
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        actor: str,
    ) -> None:
        self._database = database
        self._promote = promote
        self._rollback = rollback
        self._ready = ready
        self._now = now
        self._new_id = new_id
        self._actor = actor

    def finish(self, experiment: Experiment) -> Step:
        """Carry out the move and record that it is done."""
        if experiment.state is State.PROMOTING:
            step = self._finish_promotion(experiment)
        else:
            # Traffic went back to the champion when ROLLING_BACK was written: the routing table has no such state.
            self._do_rollback(experiment)
            step = Step(State.ROLLED_BACK, experiment.stage, "Traffic is back on the champion.")
        with self._database.write() as connection:
            transition(
                connection,
                experiment,
                step.to_state,
                actor=self._actor,
                inputs={"reason": step.reason},
                now=self._now(),
                new_id=self._new_id,
            )
        return step

    def _finish_promotion(self, experiment: Experiment) -> Step:
        with self._database.read() as connection:
            pointer = pointer_of(connection, experiment.assistant)
        serving = pointer.variant_id if pointer is not None else experiment.control_variant
        if serving not in (experiment.control_variant, experiment.candidate_variant):
            return Step(State.ROLLING_BACK, experiment.stage, "The champion was moved by hand while the candidate was being promoted.")
        if serving == experiment.control_variant:
            with self._ready(experiment.candidate_variant):
                if self._promote is not None:
                    self._promote(experiment.candidate_variant)
                else:
                    with self._database.write() as connection:
                        self._move(connection, experiment, expected_version=pointer.version if pointer is not None else 0)
        return Step(State.PROMOTED, experiment.stage, "The candidate is the champion.")

    def _move(self, connection: Connection, experiment: Experiment, *, expected_version: int) -> None:
        move_champion(
            connection,
            assistant=experiment.assistant,
            to=experiment.candidate_variant,
            actor=self._actor,
            reason=f"Experiment {experiment.experiment_id}: the benefit test reached its threshold.",
            now=self._now(),
            new_id=self._new_id,
            expected_version=expected_version,
        )

    def _do_rollback(self, experiment: Experiment) -> None:
        if self._rollback is not None:
            self._rollback()
            return
        with self._database.write() as connection:
            set_candidate(
                connection,
                assistant=experiment.assistant,
                variant_id=None,
                actor=self._actor,
                reason=f"Experiment {experiment.experiment_id} was rolled back.",
                now=self._now(),
                new_id=self._new_id,
            )
