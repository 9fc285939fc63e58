"""Signs of life of a long extraction: a page, or a piece of a long text, is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_report: ContextVar[Callable[[], None]] = ContextVar("report", default=lambda: None)


def step() -> None:
    """Tell whoever waits that the extraction goes on."""
    _report.get()()


@contextmanager
def reporting(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` at each step inside the block."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)
