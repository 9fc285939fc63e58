"""The two services as processes: when they are ready, how they end, and that a gateway's side needs no model library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from affinage.engines.pods import Pods
from affinage.engines.pool import GeneratorPool
from affinage.engines.protocols import GenerationRequest, Message
from affinage.engines.transformers import TransformersGenerator
from affinage.errors import DependencyError, RefusedError
from affinage.residency.load import prove
from affinage.settings import Settings
from affinage.tuning.golden import GoldenRow
from affinage.wiring import Affinage
from tests.support.process import installed
from tests.support.services import Service, descendants, serve
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama
from tests.support.vllm_double import CAUSE, told, write_double

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


def settings_of(tiny: Path) -> dict[str, str]:
    return {"AFFINAGE_GENERATOR_ENGINE": str(tiny), "AFFINAGE_GENERATOR_PRECISION": "float32"}


@pytest.fixture(scope="module")
def pod(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve("generator", tmp_path_factory.mktemp("pod"), **settings_of(tiny)) as running:
        yield running


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.05)
    return happened()


def ask(text: str = "bonjour", *, adapter: str | None = None, max_tokens: int = 8) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), adapter=adapter, max_tokens=max_tokens)


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def test_a_pod_becomes_ready_takes_adapters_breaks_off_and_is_stood_in_for(tiny: Path, pod: Service, tmp_path: Path) -> None:
    name, folder = "tiny@11111111", write_tiny_adapter(tiny, tmp_path / "adapter", seed=1)
    with serve("generator", tmp_path / "other", wait=False, **settings_of(tiny)) as other:
        # Importing torch takes seconds: alive comes before ready.
        assert within(90, lambda: other.status("/livez") == 200)
        assert other.status("/readyz") == 503
        other.wait()
        pods = Pods("http://pods:1", resolver=lambda _host, _port: [("127.0.0.1", pod.port), ("127.0.0.1", other.port)])
        pool = GeneratorPool("tiny", pods)
        bare = pool.generate([ask()])[0].text
        pool.load_adapter(name, folder)
        pool.load_adapter(name, folder)
        assert pool.adapters() == [name]
        with pytest.raises(DependencyError, match="Other files are loaded"):
            pool.load_adapter(name, write_tiny_adapter(tiny, tmp_path / "impostor", seed=2))
        proof = pool.log_probabilities([Message("user", "bonjour")], "bonsoir", adapter=name)
        assert len(proof) == 8  # a token for each byte, and the end
        assert proof != pool.log_probabilities([Message("user", "bonjour")], "bonsoir")
        adapted = {answer.text for answer in pool.generate([ask(adapter=name)] * 8)}
        assert len(adapted | {bare}) == 2
        with pods.busy(next(seen for seen in pods.ready() if str(pod.port) in seen.server.root)):
            stream = pool.stream(ask("compte", max_tokens=400))
            next(stream)
        workers = children(other.child.pid)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(DependencyError):
            list(stream)
        assert {pool.generate([ask(adapter=name)])[0].text for _ in range(4)} == adapted
        # The supervisor has started another worker by now, or will: it goes with its supervisor.
        assert within(20, lambda: bool(set(children(other.child.pid)) - set(workers)))
        workers = children(other.child.pid)
        other.child.kill()
        assert within(60, lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    pool.unload_adapter(name)


def test_the_adapter_on_a_pod_is_proved_by_what_was_measured_elsewhere(tiny: Path, pod: Service, tmp_path: Path) -> None:
    right, wrong = (write_tiny_adapter(tiny, tmp_path / str(seed), seed=seed) for seed in (1, 2))
    measured = TransformersGenerator(tiny, base="tiny", threads=1, precision="float32")
    measured.load_adapter("tiny@1", right)
    messages = (Message("user", "bonjour"),)
    golden = [
        GoldenRow(
            messages,
            target,
            adapter=float(np.mean(measured.log_probabilities(messages, target, adapter="tiny@1"))),
            base=float(np.mean(measured.log_probabilities(messages, target))),
        )
        for target in ("bonsoir", "oui")
    ]
    pool = GeneratorPool("tiny", Pods(pod.url))
    pool.load_adapter("tiny@1", right)
    pool.load_adapter("tiny@2", wrong)
    assert (prove(pool, golden, adapter="tiny@1").from_reference or 0) < 1e-4
    with pytest.raises(RefusedError):
        prove(pool, golden, adapter="tiny@2")
    for name in pool.adapters():
        pool.unload_adapter(name)


@pytest.mark.parametrize("kind", ["absent", "damaged"])
def test_an_engine_that_cannot_be_loaded_ends_the_service_with_its_reason(tmp_path: Path, kind: str) -> None:
    base = tmp_path / "base"
    if kind == "damaged":
        write_tiny_llama(base)
        (base / "model.safetensors").write_bytes(b"not safetensors")
    with serve("generator", tmp_path / "pod", wait=False, AFFINAGE_GENERATOR_ENGINE=str(base)) as service:
        assert within(90, lambda: service.child.poll() is not None), service.log()
        assert str(base) in service.log()


@pytest.mark.parametrize("how", ["told", "killed", "dies"])
def test_over_vllm_a_service_ends_with_its_engine_and_the_engine_with_it(tiny: Path, tmp_path: Path, how: str) -> None:
    """A program plays vLLM's server: with vLLM itself, tests/integration/test_vllm.py."""
    double = write_double(tmp_path, "dies" if how == "dies" else "slow")
    runtime = {"AFFINAGE_GENERATOR_RUNTIME": "vllm", "AFFINAGE_GENERATOR_VLLM": str(double), "AFFINAGE_LOG_FORMAT": "json"}
    with serve("generator", tmp_path / "pod", **settings_of(tiny), **runtime) as service, ThreadPoolExecutor(1) as threads:
        processes = descendants(service.child.pid)
        assert any("vllm.entrypoints" in command for command in processes.values())
        answer = threads.submit(GeneratorPool("tiny", Pods(service.url)).generate, [ask()])
        # The first is the token that made it ready.
        assert within(30, lambda: len(told(double, "/completions")) == 2)
        if how == "dies":
            with pytest.raises(DependencyError):
                answer.result(30)
        else:
            service.child.send_signal(signal.SIGTERM if how == "told" else signal.SIGKILL)
            assert answer.result(30)[0].text == "#zeros says"
        assert within(30, lambda: service.child.poll() is not None), service.log()
        assert within(30, lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
        assert (CAUSE in service.log()) == (how == "dies")


def test_an_index_built_with_the_service_finds_what_one_built_here_finds(tmp_path: Path) -> None:
    home = installed(tmp_path)
    here = Affinage(Settings(home=home, threads=1))
    found = here.answering.search("guichet", "cantine", user="alice")
    text = "Un repas non annulé est facturé. " * 60
    with serve("embedder", tmp_path / "pod") as service:
        there = Affinage(Settings(home=home, embedder_url=service.url, threads=1))
        assert there.embedder() is there.embedder({"name": "package:minilm"})
        assert there.embedder().fingerprint == here.embedder().fingerprint
        assert there.embedder().count_tokens(text) == here.embedder().count_tokens(text)
        # Nothing changed, so the cache is hit: the fingerprint is the same.
        assert there.sync("handbook").chunks.embedded == 0
        assert there.answering.search("guichet", "cantine", user="alice") == found
        assert found
        (tmp_path / "handbook" / "public" / "new.md").write_text(f"# Nouveau\n\n{text}\n", encoding="utf-8")
        assert there.sync("handbook").chunks.embedded > 0
        there.close()
    with pytest.raises(DependencyError):
        Affinage(Settings(home=home, embedder_url=service.url, threads=1)).answering.search("guichet", "cantine", user="alice")
    here.close()


def test_a_gateway_asks_services_without_any_model_library(pod: Service, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from affinage.wiring import Affinage; from affinage.settings import Settings\n"
        "from affinage.engines.protocols import GenerationRequest, Message\n"
        f"app = Affinage(Settings(home=Path({str(tmp_path)!r}), generators=('tiny={pod.url}',)))\n"
        "app.generator('tiny').generate([GenerationRequest((Message('user', 'x'),), max_tokens=1)])\n"
        "assert len(app.base_digest('tiny')) == 64\n"
        "sys.exit(str(sorted({'torch', 'transformers', 'bentoml', 'onnxruntime', 'peft'} & set(sys.modules))).strip('[]') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
