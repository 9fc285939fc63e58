"""A generator's service over a real vLLM, from the environment that `make test-vllm` makes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.services import Service, serve
from tests.support.tiny_llama import write_tiny_llama

READY_SECONDS = 600
# Some 40 s of processor time: three processes import torch. Two minutes on a machine with other work.


def vllm_python() -> Path:
    """Python of that environment; without it the test fails in CI, and is skipped with its reason elsewhere."""
    found = os.environ.get("VLLM_PYTHON")
    if found:
        return Path(found)
    reason = "vLLM is not here: `make test-vllm` installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def serve_vllm(folder: Path) -> Iterator[Service]:
    """The service, ready. Its base lies in `folder`/base: the same weights each time."""
    python = vllm_python()
    base = write_tiny_llama(folder / "base", head_size=32)
    environment = {
        "AFFINAGE_GENERATOR_ENGINE": str(base),
        "AFFINAGE_GENERATOR_PRECISION": "float32",
        "AFFINAGE_GENERATOR_RUNTIME": "vllm",
        "AFFINAGE_GENERATOR_VLLM": str(python),
        "AFFINAGE_LOG_FORMAT": "json",
        "AFFINAGE_LOG_LEVEL": "INFO",
    }
    with serve("generator", folder, wait=False, **environment) as service:
        service.wait(READY_SECONDS)
        yield service
