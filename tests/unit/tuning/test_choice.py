"""Which training a dataset allows."""

from __future__ import annotations

import pytest

from affinage.tuning.choice import choose_method


def counts(total: int) -> dict[str, int]:
    return {"train": total - 20, "validation": 10, "test": 10}


@pytest.mark.parametrize("kind", ["sft", "extraction", "classification"])
def test_enough_corrections_are_trained_on(kind: str) -> None:
    choice = choose_method(kind, counts(1200), min_examples=1000)
    assert (choice.method, choice.reasons, choice.warnings) == ("sft", (), ())


def test_few_rows_warn_and_too_few_are_refused_with_what_is_missing() -> None:
    assert "400 rows are few" in choose_method("sft", counts(400), min_examples=100).warnings[0]
    choice = choose_method("sft", counts(400), min_examples=1000)
    assert choice.method is None
    assert choice.reasons == ("400 rows, and 1000 are needed: 600 are missing.",)


def test_nobody_may_declare_less_than_a_hundred() -> None:
    assert choose_method("extraction", counts(99), min_examples=1).method is None
    assert choose_method("extraction", counts(100), min_examples=1).method == "sft"


def test_the_minimum_of_an_assistant_is_about_its_answers_not_about_its_search() -> None:
    assert choose_method("embedding", counts(120), min_examples=1000).method == "embedding"
    assert choose_method("embedding", counts(80), min_examples=1000).method is None


def test_pairs_need_three_hundred() -> None:
    assert choose_method("dpo", counts(300), min_examples=100).method == "dpo"
    assert choose_method("dpo", counts(299), min_examples=100).method is None


@pytest.mark.parametrize(("up", "down", "method"), [(200, 0, None), (180, 20, None), (160, 40, "kto"), (0, 0, None)])
def test_ratings_need_both_classes(up: int, down: int, method: str | None) -> None:
    assert choose_method("kto", counts(200), min_examples=100, up=up, down=down).method == method


def test_without_held_out_rows_nothing_is_trained() -> None:
    choice = choose_method("sft", {"train": 2000}, min_examples=100)
    assert "held-out split is empty" in choice.reasons[0]


def test_an_unknown_kind_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        choose_method("poems", counts(500), min_examples=100)
