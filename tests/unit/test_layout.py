"""The repository's shape: what a plain folder named `platform` must not break, and what locks must not hold."""

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_platform_is_the_standard_module_even_from_the_checkout() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.__file__)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == Path(platform.__file__)
    assert "site-packages" not in platform.__file__
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        assert not re.search(r"https?://", lock.read_text()), lock.name


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.split(r"[\s<>=!~;\[]", requirement)[0].lower().replace("_", "-") for requirement in declared}
    locked = set(re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,-]+\])?==", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    assert names - locked == set()


def test_the_gateway_set_has_no_torch() -> None:
    names = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "gateway.txt").read_text(), re.MULTILINE)
    assert "uvicorn" in names
    assert not {"torch", "transformers", "mlflow", "prefect"} & set(names)


def test_locked_versions_respect_the_bounds_that_were_found_to_matter() -> None:
    lock = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    version = {
        name: tuple(int(part) for part in lock[name].split(".")) for name in ("fastapi", "sqlalchemy", "prefect", "mlflow", "lancedb")
    }
    assert version["fastapi"] < (0, 151)
    assert version["sqlalchemy"] < (2, 1)
    assert version["prefect"] >= (3, 8, 8)
    assert version["mlflow"] >= (3, 17, 2)
    assert version["lancedb"] >= (0, 40)


def test_light_verbs_import_no_heavy_library() -> None:
    heavy = "{'torch', 'mlflow', 'lancedb', 'prefect', 'onnxruntime', 'transformers'}"
    code = f"import sys, affinage.cli.main; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
