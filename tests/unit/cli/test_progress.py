"""Progress goes to standard error: lines with a second between them, or a bar on a terminal."""

from __future__ import annotations

import io

import pytest

from affinage.cli.progress import Lines, shown
from affinage.index.progress import Progress

HALF = Progress("handbook", 5, 10, 40, 0.5, 2.5, 20.0, 2.0)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_there_is_at_most_one_line_a_second() -> None:
    at, lines = [0.0], list[str]()
    shower = Lines(lines.append, timer=lambda: at[0])
    for tenth in range(31):
        at[0] = tenth / 10
        shower.show(HALF)
    # At 1, 2 and 3 s of three seconds in which something happened each tenth.
    assert lines == [HALF.text()] * 3


def test_without_a_terminal_lines_go_to_standard_error_and_a_short_run_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(io.StringIO()) as (say, watch):
        watch.began("handbook", documents=1)
        watch.inspected(settled=True)
        say("handbook: 1 listed")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "handbook: 1 listed\n")


def test_a_terminal_gets_a_bar_with_rates_which_is_gone_in_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    terminal = Terminal()
    with shown(terminal) as (say, watch):
        watch.began("[hand]book", documents=2)
        watch.inspected(settled=True)
        say("[hand]book: 2 listed")
    drawn = terminal.getvalue()
    assert "[hand]book: 1 of 2 documents" in drawn
    assert " 50%" in drawn
    assert "[hand]book: 2 listed\n" in drawn.replace("\r", "")
    assert drawn.rstrip("\n").endswith("\x1b[2K"), "the bar's line is erased"
    assert capsys.readouterr() == ("", "")
