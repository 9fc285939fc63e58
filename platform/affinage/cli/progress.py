"""Progress of a long sync on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from affinage.cli.output import note
from affinage.index.progress import Pace, Progress, Watch

SECONDS_BETWEEN_LINES = 1.0
# A log of a night stays readable; a run that takes less than this shows none.


class Lines:
    """Shows progress as lines, at most one each `SECONDS_BETWEEN_LINES`."""

    def __init__(self, write: Callable[[str], None], *, timer: Callable[[], float]) -> None:
        self._write = write
        self._timer = timer
        self._last = timer()

    def show(self, progress: Progress) -> None:
        """A line, if the last one is old enough."""
        if self._timer() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._timer()
            self._write(progress.text())


@contextmanager
def shown(stream: TextIO | None = None) -> Iterator[tuple[Callable[[str], None], Watch]]:
    """What takes lines to show, and what hears how far a sync is; default: on standard error."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield note, Pace(Lines(note, timer=time.monotonic).show, timer=time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(file=stream)
    # No markup: names of sources and files may look like it.
    columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=1.0, visible=False)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.ratio, description=progress.text(), visible=True)

        def say(line: str) -> None:
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield say, Pace(show, timer=time.monotonic)
