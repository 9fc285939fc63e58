"""The two services as processes: when they are ready, how they end, and that a gateway's side needs no model library."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from affinage.engines.pods import Pods
from affinage.engines.pool import GeneratorPool
from affinage.engines.protocols import GenerationRequest, Message
from affinage.errors import DependencyError
from affinage.settings import Settings
from affinage.wiring import Affinage
from tests.support.services import Service, serve
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.05)
    return happened()


def ask(text: str = "bonjour", *, adapter: str | None = None, max_tokens: int = 8) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), adapter=adapter, max_tokens=max_tokens)


def test_two_pods_take_the_adapter_agree_on_it_and_stand_in_for_each_other(tiny: Path, tmp_path: Path) -> None:
    name, folder = "tiny@11111111", write_tiny_adapter(tiny, tmp_path / "adapter", seed=1)
    settings = {"AFFINAGE_GENERATOR_ENGINE": str(tiny), "AFFINAGE_GENERATOR_PRECISION": "float32"}
    with serve("generator", tmp_path / "one", wait=False, **settings) as one, serve("generator", tmp_path / "two", **settings) as two:
        one.wait()
        pods = Pods("http://pods:1", resolver=lambda _host, _port: [("127.0.0.1", one.port), ("127.0.0.1", two.port)])
        pool = GeneratorPool("tiny", pods)
        bare = pool.generate([ask()])[0].text
        pool.load_adapter(name, folder)
        assert pool.adapters() == [name]
        proof = pool.log_probabilities([Message("user", "bonjour")], "bonsoir", adapter=name)
        assert len(proof) == 8  # a token for each byte, and the end
        assert proof != pool.log_probabilities([Message("user", "bonjour")], "bonsoir")
        adapted = {answer.text for answer in pool.generate([ask(adapter=name)] * 8)}
        assert len(adapted | {bare}) == 2
        # A pod is gone between two requests, and one in the middle of a stream.
        end_worker(one)
        assert {pool.generate([ask(adapter=name)])[0].text for _ in range(4)} == adapted
        stream = pool.stream(ask("compte", max_tokens=400))
        next(stream)
        end_worker(two)
        with pytest.raises(DependencyError):
            list(stream)


def end_worker(service: Service) -> None:
    """Kill the supervisor; the kernel then ends its worker, and its connections with it."""
    workers = children(service.child.pid)
    service.child.kill()
    service.child.wait()
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    assert within(20, lambda: service.status("/livez") == 0)


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def test_readiness_waits_for_the_weights_and_both_processes_end_together(tiny: Path, tmp_path: Path) -> None:
    with serve("generator", tmp_path, wait=False, AFFINAGE_GENERATOR_ENGINE=str(tiny)) as service:
        # Importing torch takes seconds: alive comes before ready.
        assert within(60, lambda: service.status("/livez") == 200)
        early = service.status("/readyz")
        service.wait()
        assert early == 503
        workers = children(service.child.pid)
        assert workers
        service.child.kill()
        assert within(20, lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


@pytest.mark.parametrize("kind", ["absent", "damaged"])
def test_an_engine_that_cannot_be_loaded_ends_the_service_with_its_reason(tmp_path: Path, kind: str) -> None:
    base = tmp_path / "base"
    if kind == "damaged":
        write_tiny_llama(base)
        (base / "model.safetensors").write_bytes(b"not safetensors")
    with serve("generator", tmp_path / "pod", wait=False, AFFINAGE_GENERATOR_ENGINE=str(base)) as service:
        assert within(90, lambda: service.child.poll() is not None), service.log()
        assert str(base) in service.log()


def test_a_gateway_asks_services_without_any_model_library(tiny: Path, tmp_path: Path) -> None:
    with serve("generator", tmp_path / "pod", AFFINAGE_GENERATOR_ENGINE=str(tiny)) as service:
        app = Affinage(Settings(home=tmp_path / "home", generators=(f"tiny={service.url}",), threads=1))
        assert app.base_digest("tiny") == Pods(service.url).facts()["digest"]
        app.close()
        code = (
            "import sys\n"
            f"from affinage.wiring import Affinage; from affinage.settings import Settings; from pathlib import Path\n"
            f"app = Affinage(Settings(home=Path({str(tmp_path / 'home')!r}), generators=('tiny={service.url}',)))\n"
            "from affinage.engines.protocols import GenerationRequest, Message\n"
            "app.generator('tiny').generate([GenerationRequest((Message('user', 'x'),), max_tokens=1)]); app.base_digest('tiny')\n"
            "sys.exit(str(sorted({'torch', 'transformers', 'bentoml', 'onnxruntime', 'peft'} & set(sys.modules))).strip('[]') or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
