"""Recipes: every number of a training, in one typed value.

Read from TOML by the runner and by the trainer's process. Unknown keys are refused: a misspelt key would silently train
with the default.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from affinage.errors import ConfigurationError

Kind = Literal["sft", "embedding"]


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    rank: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    learning_rate: float
    schedule: str
    warmup_ratio: float
    epochs: float
    batch: int
    micro_batch: int
    max_tokens: int
    max_grad_norm: float
    checkpoint_steps: int

    def __post_init__(self) -> None:
        whole = ("rank", "alpha", "batch", "micro_batch", "max_tokens", "checkpoint_steps")
        wrong = [name for name in (*whole, "learning_rate", "epochs", "max_grad_norm") if not getattr(self, name) > 0]
        wrong += [name for name in ("dropout", "warmup_ratio") if not 0 <= getattr(self, name) < 1]
        if wrong or not self.target_modules:
            raise ConfigurationError(
                f"The recipe's `{(wrong or ['target_modules'])[0]}` is out of range.", hint="Compare with the shipped recipe."
            )
        if self.batch % self.micro_batch:
            raise ConfigurationError("The recipe's `batch` must be a multiple of `micro_batch`.")

    @property
    def digest(self) -> str:
        """SHA-256 over all values."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class SftRecipe(_Recipe):
    """LoRA on the last layers of a causal model; loss on the answers only."""

    kind: ClassVar[Kind] = "sft"
    last_layers: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_layers < 1:
            raise ConfigurationError("The recipe's `last_layers` must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class EmbeddingRecipe(_Recipe):
    """LoRA on an embedder, contrasting each pair with the others of its batch."""

    kind: ClassVar[Kind] = "embedding"
    scale: float


Recipe = SftRecipe | EmbeddingRecipe
_TYPES: Mapping[str, type[SftRecipe] | type[EmbeddingRecipe]] = {"sft": SftRecipe, "embedding": EmbeddingRecipe}


def shipped_recipe(kind: Kind) -> Recipe:
    """The recipe that comes with the platform."""
    text = (resources.files("affinage.tuning.recipes") / f"{kind}.toml").read_text(encoding="utf-8")
    return parse_recipe(tomllib.loads(text), origin=f"recipes/{kind}.toml")


def load_recipe(file: Path) -> Recipe:
    """Read a TOML recipe.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or a key is missing, unknown or wrong.
    """
    try:
        return parse_recipe(tomllib.loads(file.read_text(encoding="utf-8")), origin=str(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The recipe {file} cannot be read: {error}.", hint="Start from a copy of a shipped recipe.") from error


def parse_recipe(values: Mapping[str, Any], *, origin: str) -> Recipe:
    """The recipe in `values`; `origin` is named in errors."""
    kind = values.get("kind")
    recipe_type = _TYPES.get(str(kind))
    if recipe_type is None:
        raise ConfigurationError(f"{origin}: `kind` must be one of {', '.join(_TYPES)}, not {kind!r}.")
    known = {field.name: str(field.type) for field in fields(recipe_type)}
    given = {key: value for key, value in values.items() if key != "kind"}
    for key in sorted(set(given) ^ set(known)):
        raise ConfigurationError(
            f"{origin}: `{key}` is {'missing' if key in known else 'not a known key'}.", hint=f"The keys are: {', '.join(known)}."
        )
    typed: dict[str, Any] = {key: _typed(value, known[key], f"{origin}: `{key}`") for key, value in given.items()}
    return recipe_type(**typed)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """What `parse_recipe` reads, for a job file or a run's parameters."""
    return {"kind": recipe.kind, **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()}}


def _typed(value: object, wanted: str, where: str) -> object:
    if wanted.startswith("tuple") and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if wanted == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if wanted == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted == "str" and isinstance(value, str):
        return value
    raise ConfigurationError(f"{where} must be of type {wanted}, not {value!r}.")
