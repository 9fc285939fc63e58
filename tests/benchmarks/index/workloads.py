"""What is done to the corpus between two runs, and what this engine must reach then. Pure, but for the corpus it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.index.corpus import LONG, Corpus

Result = dict[str, Any]
MIB = 1 << 20
RESTRICTED = 21
"""Files whose rights change: the long one, whose path sorts first, and twenty others."""


@dataclass(frozen=True)
class Workload:
    """One change. `misses` says what of the result is not as it must be; `prepares` only leads to the next one."""

    title: str
    must: str
    change: Callable[[Corpus], None]
    misses: Callable[[Result], list[str]]
    restricted: int = 0
    prepares: bool = False


def _over(result: Result, **limits: float) -> list[str]:
    return [f"{name} {result[name]}" for name, limit in limits.items() if result[name] > limit]


def _cold(result: Result) -> list[str]:
    return _over(result, seconds=10, peak_rss_bytes=350 * MIB)


def _no_vectors(result: Result) -> list[str]:
    return _over(result, embedded=0, vector_rows_written=0)


def _none(_: Corpus) -> None:
    pass


WORKLOADS = (
    Workload("cold", "<= 10 s, <= 350 MB", _none, _cold),
    Workload("nothing changed", "0 embedded, 1 ledger row, <= 0.1 s", _none, lambda r: _over(r, embedded=0, ledger_rows=1, seconds=0.1)),
    Workload("all files touched", "0 embedded, <= 0.3 s", lambda c: c.touch(), lambda r: _over(r, embedded=0, seconds=0.3)),
    Workload(
        "a paragraph in 20 files", "<= 44 embedded", lambda c: c.edit(c.paths()[100:2000:95]), lambda r: _over(r, embedded=44)
    ),
    Workload(
        "a paragraph at the top of 1.2 MB", "<= 3 embedded, <= 5 store rows",
        lambda c: c.insert_at_the_top(LONG), lambda r: _over(r, embedded=3, store_rows_written=5),
    ),
    Workload("20 renamed", "0 embedded, 0 vector rows", lambda c: c.rename(c.paths()[50:70]), _no_vectors),
    Workload("rights of 21 files", "0 embedded, 0 vector rows", _none, _no_vectors, RESTRICTED),
    Workload("20 deleted", "<= 2 store commits", lambda c: c.delete(c.paths()[200:220]), lambda r: _over(r, store_commits=2), RESTRICTED),
    Workload("the 1.2 MB without paragraph marks", "", lambda c: c.flatten(LONG), lambda _: [], RESTRICTED, prepares=True),
    Workload(
        "a paragraph at the top of that", "<= 4 embedded", lambda c: c.insert_at_the_top(LONG), lambda r: _over(r, embedded=4), RESTRICTED
    ),
)  # fmt: skip
