"""`flows/` and `services/` are thin users: they import affinage and their own framework, and never each other."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {"flows": {"affinage", "prefect"}, "services": {"affinage", "bentoml", "pydantic", "starlette", "uvicorn"}}


def imported(file: Path) -> set[str]:
    """Top-level names that the file imports, without the standard library."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


FILES = sorted(path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_thin_user_imports_only_affinage_and_its_framework(file: Path) -> None:
    assert imported(file) <= ALLOWED[file.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize("file", [f for f in FILES if f.parts[-2] == "flows" and f.stem != "deploy"], ids=lambda path: path.stem)
def test_a_flow_reads_like_the_process(file: Path) -> None:
    source = file.read_text()
    assert source.count("\n") <= 100
    assert "@flow(" in source
    assert '__name__ == "__main__"' in source
