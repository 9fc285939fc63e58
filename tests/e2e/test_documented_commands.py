"""Every command that the documentation shows is one that the command line understands."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from affinage.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md")), *sorted(ROOT.glob("*/**/README.md"))]


def documented() -> list[str]:
    """Lines of code blocks, and of inline code with arguments, that begin with `affinage`."""
    found = []
    for page in PAGES:
        if ".venv" in page.parts or "node_modules" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        lines = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?affinage +(.+)$", blocks, re.MULTILINE)
        found += [*lines, *re.findall(r"`(?:\.venv/bin/)?affinage +([^`]+)`", text)]
    return sorted(set(found))


def test_the_documentation_shows_commands() -> None:
    assert len(documented()) >= 15


@pytest.mark.parametrize("line", documented())
def test_documented_command_is_understood(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"affinage has no `{name}` here; it has {sorted(command.commands)}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used <= known, f"unknown options {sorted(used - known)}"
