"""Transcripts of invented calls, with the JSON that an agent would file.

Each agent of the training phase has products and wording of their own, so that a split by user holds out products and
sentences that no training row shows. The fresh calls of the A/B phase share neither with them. `wording/` holds the
sentences; this module puts them together, the same way for the same seed.

In seven of ten calls the agent says back what the call is about, as agents are taught to; in the others the reason must be
understood from the caller's words alone, which a model of this size hardly learns from some 140 calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np

REASONS = ("facture", "panne", "perte", "renseignement", "resiliation", "retard")
CALL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "product": {"type": "string"},
        "reason": {"type": "string", "enum": list(REASONS)},
        "reference": {"type": ["string", "null"]},
    },
    "required": ["product", "reason", "reference"],
    "additionalProperties": False,
}
TRAINING_AGENTS = 24
CALLS_PER_AGENT = 9
# 216 calls: an agent stays below 5 % of a snapshot, and about 140 rows are left for training after the splits.
PRODUCTS_PER_AGENT = 3
FRESH_AGENTS = 144
# Each asks once; an effect of the size expected here is decided within 60 to 80 ratings.
MIN_WORDS = 45
P_NO_REFERENCE = 0.22
P_HESITATION = 0.35
P_DIALOGUE = 0.7
_NOUNS: Mapping[str, str] = {
    "facture": "une question de facture",
    "panne": "une panne",
    "perte": "une perte",
    "renseignement": "une demande de renseignement",
    "resiliation": "une résiliation",
    "retard": "un retard",
}
# How an agent names each reason.

_FEMININE = (
    "Balise", "Barrière", "Borne", "Boîte", "Box", "Carte", "Clé", "Lampe", "Pompe", "Sonde", "Tablette", "Télécommande", "Vanne",
)  # fmt: skip
_LETTERS = "ABCDEFGHJKLMNPRSTVX"


@dataclass(frozen=True)
class Call:
    """One transcript, who pastes it, and what it says."""

    user: str
    text: str
    expected: Mapping[str, str | None]

    def expected_json(self) -> str:
        """The object as an agent would type it."""
        return json.dumps(dict(self.expected), ensure_ascii=False)


@dataclass(frozen=True)
class _Wording:
    """What one caller may say; `statements` maps each reason to sentences with `{p}` for the product."""

    openings: Sequence[str]
    statements: Mapping[str, Sequence[str]]
    closings: Sequence[str]
    restatements: Sequence[str]
    products: Sequence[str]


def training_calls(seed: int = 20260302) -> tuple[Call, ...]:
    """The calls that agents correct: nine for each of 24 agents, agent by agent, each reason at least once."""
    rng = np.random.default_rng(seed)
    calls = []
    for number in range(TRAINING_AGENTS):
        wording = _Wording(
            openings=(_lines("openings")[number],),
            statements=MappingProxyType({reason: (_lines(reason)[number],) for reason in REASONS}),
            closings=_lines("closings")[:20],
            restatements=(_lines("restatements")[number],),
            products=_lines("products")[PRODUCTS_PER_AGENT * number : PRODUCTS_PER_AGENT * (number + 1)],
        )
        again = [str(reason) for reason in rng.permutation(REASONS)[: CALLS_PER_AGENT - len(REASONS)]]
        for turn, reason in enumerate([*REASONS, *again]):
            # A repeated reason comes with another product, so that no two calls of an agent tell the same.
            product = wording.products[(REASONS.index(reason) + turn // len(REASONS)) % PRODUCTS_PER_AGENT]
            calls.append(_call(rng, f"standard-{number + 1:02d}", wording, reason, product, style=number))
    return tuple(calls)


def ab_calls(seed: int = 20260330) -> tuple[Call, ...]:
    """The fresh calls of the A/B: one for each of 144 further agents, with products and sentences of their own."""
    rng = np.random.default_rng(seed)
    wording = _Wording(
        openings=_lines("openings")[TRAINING_AGENTS:],
        statements=MappingProxyType({reason: _lines(reason)[TRAINING_AGENTS:] for reason in REASONS}),
        closings=_lines("closings")[20:],
        restatements=_lines("restatements")[TRAINING_AGENTS:],
        products=_lines("products-fresh"),
    )
    calls = []
    for number in range(FRESH_AGENTS):
        product = wording.products[int(rng.integers(len(wording.products)))]
        reason = REASONS[number % len(REASONS)]
        calls.append(_call(rng, f"poste-{number + 1:03d}", wording, reason, product, style=int(rng.integers(len(_STYLES)))))
    return tuple(calls)


def _call(rng: np.random.Generator, user: str, wording: _Wording, reason: str, product: str, *, style: int) -> Call:
    reference = None if rng.random() < P_NO_REFERENCE else _STYLES[style % len(_STYLES)](rng)
    said = _sentence(_with_product(_pick(rng, wording.statements[reason]), product), hesitates=rng.random() < P_HESITATION)
    told = _pick(rng, _lines("without-reference")) if reference is None else _pick(rng, _lines("references")).format(r=reference)
    middle = [told, said] if rng.random() < 0.4 else [said, told]
    spoken = rng.random() < P_DIALOGUE
    restated = _pick(rng, wording.restatements).format(r=_NOUNS[reason]) if spoken else ""
    turns = [_pick(rng, wording.openings), *middle, _pick(rng, wording.closings)]
    while len(" ".join([*turns, restated]).split()) < MIN_WORDS:
        turns.append(_pick(rng, [line for line in wording.closings if line not in turns]))
    text = _dialogue(turns, _pick(rng, _lines("replies")), restated) if spoken else " ".join(turns)
    return Call(user, text, MappingProxyType({"product": product, "reason": reason, "reference": reference}))


def _dialogue(turns: Sequence[str], reply: str, restated: str) -> str:
    first, *rest = turns
    return f"Usager : {first}\nAgent : {reply}\nUsager : {' '.join(rest)}\nAgent : {restated}"


def _with_product(statement: str, product: str) -> str:
    """Put `product` in place of `{p}`; the statements are written for a masculine name that opens with a consonant."""
    articles: Mapping[str, str] = {}
    if product.startswith(_FEMININE):
        articles = {"le": "la ", "un": "une ", "du": "de la ", "au": "à la ", "ce": "cette ", "mon": "ma ", "son": "sa "}
    elif product[0] in "AEIOUÉ":
        articles = {"le": "l'", "du": "de l'", "au": "à l'", "ce": "cet "}
    return re.sub(r"(?:(\w+) )?\{p\}", lambda found: _joined(found.group(1), articles, product), statement)


def _joined(article: str | None, articles: Mapping[str, str], product: str) -> str:
    return product if article is None else articles.get(article, f"{article} ") + product


def _sentence(statement: str, *, hesitates: bool) -> str:
    if hesitates:
        statement = statement.replace(", ", ", euh, ", 1)
    return statement[0].upper() + statement[1:] + "."


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(1, 10, size=count))


def _letter(rng: np.random.Generator) -> str:
    return _LETTERS[int(rng.integers(len(_LETTERS)))]


_STYLES: tuple[Callable[[np.random.Generator], str], ...] = (
    lambda rng: f"{_letter(rng)}{_letter(rng)}-{_digits(rng, 4)}",
    lambda rng: f"{_digits(rng, 2)} {_digits(rng, 3)}",
    lambda rng: f"{_letter(rng)}/{_digits(rng, 4)}",
    lambda rng: f"2025-{_digits(rng, 4)}",
    lambda rng: f"{_digits(rng, 2)}{_letter(rng)}{_digits(rng, 1)}",
    lambda rng: f"{_letter(rng)}.{_digits(rng, 3)}.{_digits(rng, 2)}",
    lambda rng: f"OR {_digits(rng, 4)}",
    lambda rng: _digits(rng, 7),
)


def _pick(rng: np.random.Generator, among: Sequence[str]) -> str:
    return among[int(rng.integers(len(among)))]


@cache
def _lines(name: str) -> tuple[str, ...]:
    text = (files("affinage.demo") / "wording" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)
