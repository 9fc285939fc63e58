"""Which training a dataset allows: a rule, not a wish. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Method = Literal["sft", "dpo", "kto", "embedding"]
FEW_ROWS = 1000
"""Below this SFT learns the form of answers long before their content (measured on a small model); so it warns."""
MIN_ROWS = 100
"""Never train on fewer, whatever an assistant declares."""
MIN_PAIRS = 300
MIN_CLASS_SHARE = 0.15


@dataclass(frozen=True)
class Choice:
    """The method, or the refusal. `reasons` is not empty when `method` is None; `warnings` do not stop anything."""

    method: Method | None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_method(kind: str, counts: Mapping[str, int], *, min_examples: int, up: int = 0, down: int = 0) -> Choice:
    """What to train on a snapshot of `kind`.

    Parameters
    ----------
    kind
        Of the dataset: sft, extraction, classification, embedding, dpo, kto.
    counts
        Rows by split.
    min_examples
        As the assistant declares it; at least `MIN_ROWS` counts.
    up, down
        Ratings of either class in a kto snapshot.

    Raises
    ------
    ValueError
        If `kind` is none of these.
    """
    train, test = counts.get("train", 0), counts.get("test", 0)
    total = train + test + counts.get("validation", 0)
    if kind in {"sft", "extraction", "classification", "embedding"}:
        # The declared minimum is about answers; how many pairs teach an embedder does not depend on the assistant.
        needed = MIN_ROWS if kind == "embedding" else max(min_examples, MIN_ROWS)
        method: Method = "embedding" if kind == "embedding" else "sft"
        reasons = [] if total >= needed else [f"{total} rows, and {needed} are needed: {needed - total} are missing."]
        few = f"{total} rows are few: below {FEW_ROWS} a model learns the form of answers before their content."
        warnings = (few,) if total < FEW_ROWS else ()
    elif kind == "dpo":
        method, warnings = "dpo", ()
        reasons = [] if total >= MIN_PAIRS else [f"{total} pairs, and {MIN_PAIRS} are needed: use corrections (sft) until then."]
    elif kind == "kto":
        method, warnings = "kto", ()
        smaller = min(up, down) / max(up + down, 1)
        reasons = [] if total >= MIN_ROWS else [f"{total} rated answers, and {MIN_ROWS} are needed."]
        if smaller < MIN_CLASS_SHARE:
            reasons.append(
                f"The rarer rating makes {smaller:.0%} of all, and {MIN_CLASS_SHARE:.0%} are needed: with one class nothing is learned."
            )
    else:
        raise ValueError(f"unknown kind of dataset: {kind!r}")
    if not test:
        reasons.append("The held-out split is empty: nothing could tell whether training helped.")
    return Choice(None if reasons else method, tuple(reasons), warnings)
