"""Which variant answers a request: the arm of a live experiment, else the champion, else what was declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from affinage.answers.defaults import default_variant
from affinage.answers.variant import Variant
from affinage.declarations.model import AssistantSpec
from affinage.experiments.routing import Assignment, assign, earlier_arms, load_routing, record_exposure
from affinage.index.generations import serving_generations
from affinage.registry.variants import champion_of, get_variant, save_variant


@dataclass(frozen=True)
class Routed:
    """The variant of one request and how it was drawn. `declared` marks one that no champion and no experiment named."""

    variant: Variant
    assignment: Assignment
    declared: bool = False


def declared_variant(connection: Connection, spec: AssistantSpec, *, base_digest_of: Callable[[str], str | None]) -> Variant:
    """The variant of the declaration on the generations that serve now."""
    generations = serving_generations(connection, spec.sources)
    return default_variant(spec, generations=generations, base_digest=base_digest_of(spec.engine))


class DatabaseRouting:
    """Routes by what the database says at this moment.

    Parameters
    ----------
    base_digest_of
        Digest of an engine's weights, by the engine's name; None for engines without weights of ours.
    """

    def __init__(self, *, base_digest_of: Callable[[str], str | None]) -> None:
        self._base_digest_of = base_digest_of

    def route(self, connection: Connection, spec: AssistantSpec, *, unit: str | None) -> Routed:
        """The variant for one unit; None is an anonymous caller, who gets control."""
        table = load_routing(connection)
        experiment = table.experiments.get(spec.name)
        earlier = earlier_arms(connection, experiment_id=experiment.experiment_id, unit=unit) if experiment and unit else {}
        assignment = assign(table, spec.name, unit, earlier)
        if assignment.variant_id is not None:
            return Routed(get_variant(connection, assignment.variant_id), assignment)
        champion = champion_of(connection, spec.name)
        if champion is not None:
            return Routed(champion, assignment)
        return Routed(declared_variant(connection, spec, base_digest_of=self._base_digest_of), assignment, declared=True)

    def record(
        self, connection: Connection, spec: AssistantSpec, routed: Routed, *, unit: str | None, answer_id: str, now: datetime
    ) -> None:
        """Store a declared variant that is new, and the unit's first use of an arm; needs a write transaction."""
        if routed.declared:
            save_variant(connection, routed.variant, organisation=spec.organisation, now=now)
        record_exposure(connection, assignment=routed.assignment, unit=unit, answer_id=answer_id, now=now)
