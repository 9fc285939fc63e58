"""What is in the gateway's image, and whether it stands on its own feet."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.cluster import images

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GATEWAY_BYTES = 350_000_000
"""Layers as tar files, not compressed, base image included; a registry moves about a third of it."""
ELSEWHERE = {"torch", "mlflow", "prefect", "transformers", "bentoml", "lancedb", "pyarrow", "onnxruntime"}
SITE = re.compile(r"opt/affinage/lib/python3\.\d+/site-packages/")


@pytest.fixture(scope="module")
def gateway() -> Path:
    return images.archive("gateway")


def installed(image: Path) -> dict[str, str]:
    """Version of each distribution in the image, by normalised name."""
    found = [re.search(r"site-packages/([^/]+)-([^-/]+)\.dist-info/METADATA$", name) for name, _ in images.files(image)]
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found if match and "/opt/" in f"/{match.string}"}


def test_the_gateway_is_small_and_holds_only_what_is_locked(gateway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = (images.ROOT / "requirements" / "gateway.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", lock, re.MULTILINE))
    found = installed(gateway)
    assert found.pop("affinage") == "0.1.0"
    assert len(found) > 30
    assert {name: version for name, version in found.items() if locked.get(name) != version} == {}
    assert not ELSEWHERE & found.keys()
    size = images.layers_bytes(gateway)
    with capsys.disabled():
        sys.stderr.write(f"\nImage of the gateway: {size / 1e6:.0f} MB of layers, not compressed; {len(found)} packages.\n")
    assert size <= GATEWAY_BYTES


def test_the_gateway_runs_as_nobody_in_particular_and_compiles_nothing_at_its_start(gateway: Path) -> None:
    config = images.configuration(gateway)
    assert config["User"] == "10001:10001"
    assert config["Cmd"][:3] == ["affinage", "serve", "gateway"]  # type: ignore[index]
    names = {name for name, _ in images.files(gateway)}
    own = {SITE.sub("", name) for name in names if "/site-packages/affinage/" in name}
    for module in (name for name in own if name.endswith(".py")):
        folder, _, stem = module.removesuffix(".py").rpartition("/")
        assert f"{folder}/__pycache__/{stem}.cpython-311.pyc" in own, module
    assert not {name for name in names if name.startswith("wheels/") or "/.cache/" in name}
    assert not [name for name in names if name.startswith("opt/affinage") and "/site-packages/pip/" in name]


def test_every_image_declares_a_numeric_user_and_a_command() -> None:
    """An orchestrator can tell only of a number that it is not root's."""
    files = [images.ROOT / "services" / name / "Containerfile" for name in ("gateway", "embedder", "generator")]
    for file in [*files, images.ROOT / "services" / "generator" / "Containerfile.vllm", images.ROOT / "flows" / "Containerfile"]:
        last = file.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE), file
        (command,) = re.findall(r"^CMD (.*)$", last, re.MULTILINE)
        assert json.loads(command)[0] in {"affinage", "bentoml", "prefect"}
