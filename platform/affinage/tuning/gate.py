"""The decision whether a candidate may meet users. Pure.

It never sees a training metric: only scores of control and candidate on the same held-out rows, paired. The primary
metric must improve for sure; guards may not get worse by more than their margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affinage.scoring.bootstrap import PairedDifference, paired_cluster_bootstrap


@dataclass(frozen=True)
class GateRule:
    """What a candidate must show.

    Parameters
    ----------
    primary
        The metric whose lower bound must lie above zero.
    guards
        Metric to margin: the lower bound of its difference may not lie below minus the margin.
    min_items, min_clusters
        Below these the held-out split is too small to say anything.
    """

    primary: str
    guards: Mapping[str, float] = field(default_factory=dict)
    min_items: int = 8
    min_clusters: int = 2


# A point of validity is a broken screen for one user in a hundred; with some 40 held-out rows two rows are 5 points.
EXTRACTION_RULE = GateRule("field_f1", {"valid_json": 0.05, "exact_match": 0.05})
# Recall is coarser than nDCG on the same queries, so its interval is wider.
EMBEDDING_RULE = GateRule("ndcg_at_10", {"recall_at_5": 0.05})


@dataclass(frozen=True)
class GateDecision:
    """The decision, its reasons (empty when passed) and the figures of every metric."""

    passed: bool
    reasons: tuple[str, ...]
    primary: str
    figures: Mapping[str, PairedDifference]

    def metrics(self) -> dict[str, Any]:
        """The primary's figures at the top, the others under `others`, as the command line prints them."""
        others = {name: _figures(found) for name, found in self.figures.items() if name != self.primary}
        # Refused before anything was measured: the keys are there, with nothing to say.
        main = self.figures.get(self.primary, paired_cluster_bootstrap([], [], [], rng=np.random.default_rng(0)))
        return {"primary": self.primary, **_figures(main), "items": main.items, "clusters": main.clusters, "others": others}


def refusal(rule: GateRule, *reasons: str) -> GateDecision:
    """Refused before anything was measured."""
    return GateDecision(False, reasons, rule.primary, {})


def decide(
    *,
    rule: GateRule,
    control: Mapping[str, Sequence[float]],
    candidate: Mapping[str, Sequence[float]],
    clusters: Sequence[str],
    rng: np.random.Generator,
) -> GateDecision:
    """Compare two systems on the same rows.

    Parameters
    ----------
    control, candidate
        Scores by metric, each of shape (n_rows,), in the same order of rows.
    clusters
        The document or user each row belongs to; rows of one cluster are not independent.

    Raises
    ------
    ValueError
        If a metric of the rule is missing on one side.
    """
    missing = sorted({rule.primary, *rule.guards} - (control.keys() & candidate.keys()))
    if missing:
        raise ValueError(f"no scores for {missing[0]!r}; there are {sorted(control.keys() & candidate.keys())}")
    names = [rule.primary, *(name for name in control if name != rule.primary and name in candidate)]
    figures = {name: paired_cluster_bootstrap(control[name], candidate[name], clusters, rng=rng) for name in names}
    main = figures[rule.primary]
    reasons = []
    if main.items < rule.min_items or main.clusters < rule.min_clusters:
        reasons.append(
            f"The held-out split is too small: {main.items} rows in {main.clusters} groups,"
            f" and {rule.min_items} rows in {rule.min_clusters} groups are needed."
        )
    elif not main.lower > 0:
        reasons.append(f"{rule.primary} did not improve for sure: {_sentence(main)}.")
    for name, margin in rule.guards.items():
        found = figures[name]
        if found.items and not found.lower >= -margin:
            reasons.append(f"{name} may have become worse by more than {margin:.2f}: {_sentence(found)}.")
    return GateDecision(not reasons, tuple(reasons), rule.primary, figures)


def _figures(found: PairedDifference) -> dict[str, Any]:
    """Plain numbers; None where there is nothing to say (JSON has no NaN and no infinity)."""
    numbers = {"control": found.control, "candidate": found.candidate, "difference": found.difference}
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**finite, "interval": [bound if math.isfinite(bound) else None for bound in (found.lower, found.upper)]}


def _sentence(found: PairedDifference) -> str:
    return (
        f"{found.control:.3f} before, {found.candidate:.3f} after, difference {found.difference:+.3f},"
        f" 95 % interval [{found.lower:+.3f}, {found.upper:+.3f}], {found.items} rows in {found.clusters} groups"
    )
