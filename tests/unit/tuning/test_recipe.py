from pathlib import Path

import pytest

from affinage.errors import ConfigurationError
from affinage.tuning.recipe import EmbeddingRecipe, SftRecipe, load_recipe, parse_recipe, recipe_values, shipped_recipe


def test_the_shipped_recipes_are_complete() -> None:
    assert isinstance(shipped_recipe("sft"), SftRecipe)
    assert isinstance(shipped_recipe("embedding"), EmbeddingRecipe)


@pytest.mark.parametrize("kind", ["sft", "embedding"])
def test_what_is_written_is_read_back(kind: str) -> None:
    recipe = shipped_recipe(kind)  # type: ignore[arg-type]
    assert parse_recipe(recipe_values(recipe), origin="job") == recipe


def test_every_value_counts_in_the_digest() -> None:
    values = recipe_values(shipped_recipe("sft"))
    digests = {
        parse_recipe({**values, key: value}, origin="x").digest for key, value in [("rank", 8), ("learning_rate", 5e-4), ("epochs", 2)]
    }
    assert len(digests | {shipped_recipe("sft").digest}) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rat": 1e-3}, "learning_rat"),
        ({"scale": 20.0}, "scale"),
        ({"rank": "16"}, "rank"),
        ({"rank": 16.5}, "rank"),
        ({"rank": True}, "rank"),
        ({"rank": 0}, "rank"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"warmup_ratio": 1.5}, "warmup_ratio"),
        ({"target_modules": "q_proj"}, "target_modules"),
        ({"target_modules": []}, "target_modules"),
        ({"micro_batch": 3}, "micro_batch"),
        ({"kind": "dpo"}, "kind"),
    ],
)
def test_a_wrong_key_or_value_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse_recipe({**recipe_values(shipped_recipe("sft")), **change}, origin="my.toml")


def test_a_missing_key_is_named() -> None:
    values = recipe_values(shipped_recipe("sft"))
    del values["alpha"]
    with pytest.raises(ConfigurationError, match="`alpha` is missing"):
        parse_recipe(values, origin="my.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("kind = ", encoding="utf-8")
    for name in ("broken.toml", "absent.toml"):
        with pytest.raises(ConfigurationError, match=name):
            load_recipe(tmp_path / name)
