"""Which variant answers a request: the arm of a live experiment, else the champion, else what was declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from affinage.answers.defaults import default_variant
from affinage.answers.variant import Variant
from affinage.declarations.model import AssistantSpec
from affinage.index.generations import serving_generations

CONTROL = "control"


@dataclass(frozen=True)
class Routed:
    """The variant of one request and how it was drawn.

    `q` is the probability of a candidate given the unit's earlier arms; 0 outside an experiment. `stored` is False for a
    default variant that the registry has not seen yet.
    """

    variant: Variant
    arm: str = CONTROL
    q: float = 0.0
    experiment_id: str | None = None
    stage: int = 0
    stored: bool = True


def declared_variant(connection: Connection, spec: AssistantSpec, *, base_digest_of: Callable[[str], str | None]) -> Variant:
    """The variant of the declaration on the generations that serve now."""
    generations = serving_generations(connection, spec.sources)
    return default_variant(spec, generations=generations, base_digest=base_digest_of(spec.engine))
