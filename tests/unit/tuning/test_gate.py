"""The gate's decision, from scores alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from affinage.tuning.gate import EXTRACTION_RULE, GateRule, decide, refusal

RULE = GateRule("f1", {"valid": 0.05}, min_items=4)
CLUSTERS = [f"user-{i // 4}" for i in range(24)]


def judge(control, candidate, *, rule: GateRule = RULE, clusters=CLUSTERS):
    return decide(rule=rule, control=control, candidate=candidate, clusters=clusters, rng=np.random.default_rng(1))


def scores(f1: float, valid: float = 1.0, n: int = 24) -> dict[str, list[float]]:
    rng = np.random.default_rng(int(f1 * 1000))
    return {"f1": list(f1 + rng.normal(0, 0.02, size=n)), "valid": [valid] * n}


def test_a_clear_gain_with_guards_kept_passes_without_reasons() -> None:
    decision = judge(scores(0.3), scores(0.5))
    assert decision.passed
    assert decision.reasons == ()
    figures = decision.metrics()
    assert figures["primary"] == "f1"
    assert figures["difference"] == pytest.approx(0.2, abs=0.02)
    assert figures["interval"][0] > 0
    assert (figures["items"], figures["clusters"]) == (24, 6)
    assert figures["others"]["valid"]["difference"] == 0


def test_no_change_is_refused_with_the_figures_in_the_reason() -> None:
    decision = judge(scores(0.3), scores(0.3))
    assert not decision.passed
    (reason,) = decision.reasons
    assert reason.startswith("f1 did not improve for sure: 0.")
    assert "24 rows in 6 groups" in reason


def test_a_loss_is_refused() -> None:
    assert not judge(scores(0.5), scores(0.3)).passed


def test_a_gain_of_one_user_alone_is_refused() -> None:
    # 4 rows of 24 improve by 1: the mean gain is 0.17, and nothing says that another user would see it.
    candidate = [1.0] * 4 + [0.0] * 20
    decision = judge({"f1": [0.0] * 24, "valid": [1.0] * 24}, {"f1": candidate, "valid": [1.0] * 24})
    assert not decision.passed


def test_a_gain_that_costs_a_guard_more_than_its_margin_is_refused() -> None:
    broken = {**scores(0.5), "valid": [0.0, 0.0] + [1.0] * 22}
    decision = judge(scores(0.3), broken)
    assert not decision.passed
    assert "valid may have become worse by more than 0.05" in decision.reasons[0]


def test_a_guard_that_improves_is_no_obstacle() -> None:
    assert judge(scores(0.3, valid=0.2), scores(0.5)).passed


def test_a_split_that_is_too_small_is_refused_whatever_the_gain() -> None:
    small = {"f1": [0.0] * 3, "valid": [1.0] * 3}, {"f1": [1.0] * 3, "valid": [1.0] * 3}
    decision = judge(*small, clusters=["a", "b", "c"])
    assert "too small: 3 rows in 3 groups" in decision.reasons[0]
    decision = judge(scores(0.1, n=8), scores(0.9, n=8), clusters=["a"] * 8)
    assert "8 rows in 1 groups" in decision.reasons[0]


def test_no_rows_at_all_are_refused_and_the_figures_are_still_json() -> None:
    nothing = {"f1": [], "valid": []}
    decision = judge(nothing, nothing, clusters=[])
    assert not decision.passed
    figures = json.loads(json.dumps(decision.metrics(), allow_nan=False))
    assert (figures["control"], figures["interval"]) == (None, [None, None])


def test_a_score_that_is_nan_does_not_decide() -> None:
    control, candidate = scores(0.3), scores(0.5)
    candidate["f1"][0] = math.nan
    decision = judge(control, candidate)
    assert decision.passed
    assert decision.metrics()["items"] == 23


def test_a_refusal_before_measuring_has_the_same_keys() -> None:
    figures = refusal(RULE, "Its files are not sound.").metrics()
    assert set(figures) == set(judge(scores(0.3), scores(0.5)).metrics())


def test_a_missing_metric_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="no scores for 'f1'"):
        judge({"valid": [1.0] * 24}, {"valid": [1.0] * 24})


def test_shuffled_improvement_is_refused_nineteen_times_in_twenty() -> None:
    """The null control: scores of the candidate are those of the control in another order."""
    rng = np.random.default_rng(11)
    passed = 0
    for _ in range(60):
        control = rng.random(24)
        both = {name: list(control) for name in ("field_f1", "exact_match", "valid_json")}
        shuffled = {name: list(rng.permutation(control)) for name in both}
        passed += decide(rule=EXTRACTION_RULE, control=both, candidate=shuffled, clusters=CLUSTERS, rng=rng).passed
    assert passed <= 3
