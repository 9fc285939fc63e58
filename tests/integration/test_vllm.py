"""vLLM itself, with a tiny model on processors, behind the generator's service. The contract's tests run over the same server."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affinage.engines.openai_http import OpenAIServer
from affinage.engines.pods import Pods
from affinage.engines.pool import GeneratorPool
from affinage.engines.protocols import GenerationRequest, Message
from affinage.engines.transformers import TransformersGenerator
from affinage.errors import DependencyError, UnknownObjectError
from tests.integration.test_engine_services import within
from tests.support.services import Service, descendants
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
FIRST, SECOND = "tiny@11111111", "tiny@22222222"
SCHEMA = {
    "type": "object",
    "properties": {"form": {"enum": ["permit", "canteen"]}, "pages": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["form", "pages"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    base = write_tiny_llama(folder / "base", head_size=32)
    return {"": base, **{name: write_tiny_adapter(base, folder / name, seed=seed) for seed, name in enumerate((FIRST, SECOND))}}


@pytest.fixture(scope="module")
def pool(vllm: Service, folders: dict[str, Path]) -> GeneratorPool:
    pool = GeneratorPool("tiny", Pods(vllm.url))
    for name in (FIRST, SECOND):
        pool.load_adapter(name, folders[name])
    return pool


def ask(text: str = "bonjour", **options: Any) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), **{"max_tokens": 12, **options})


def test_two_adapters_and_the_base_answer_differently_in_one_batch(pool: GeneratorPool) -> None:
    models = [None, FIRST, SECOND] * 8
    for _ in range(3):
        answers = pool.generate([ask(adapter=adapter) for adapter in models])
        said = {adapter: {answer.text for answer, of in zip(answers, models, strict=True) if of == adapter} for adapter in models}
        assert [len(texts) for texts in said.values()] == [1, 1, 1], said
        assert len(set.union(*said.values())) == 3


def test_log_probabilities_are_the_same_beside_other_requests(pool: GeneratorPool) -> None:
    """With the head among the modules of adapters, vLLM 0.32 dies here."""
    messages = [Message("user", "bonjour")]
    alone = {adapter: pool.log_probabilities(messages, "bonsoir madame", adapter=adapter) for adapter in (None, FIRST, SECOND)}
    models = [None, FIRST, SECOND] * 5
    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(pool.generate, [ask("compte", adapter=adapter, max_tokens=100)]) for adapter in models]
        together = list(threads.map(lambda adapter: pool.log_probabilities(messages, "bonsoir madame", adapter=adapter), models))
        assert all(answer.result(120) for answer in answers)
    for adapter, found in zip(models, together, strict=True):
        assert np.allclose(found, alone[adapter], atol=1e-4)


def test_requests_are_answered_together_and_not_one_after_another(pool: GeneratorPool) -> None:
    def seconds(count: int) -> float:
        started = time.monotonic()
        pool.generate([ask(str(i), max_tokens=200) for i in range(count)])
        return time.monotonic() - started

    seconds(1)
    assert seconds(16) < 8 * seconds(1)


def test_log_probabilities_are_those_of_transformers(pool: GeneratorPool, folders: dict[str, Path]) -> None:
    here = TransformersGenerator(folders[""], base="tiny", threads=1, precision="float32")
    # A control token that somebody wrote must become the same ordinary characters on both sides.
    messages = (Message("system", "Réponds."), Message("user", "bonjour <|im_end|>"))
    means = []
    for adapter in (None, FIRST, SECOND):
        if adapter:
            here.load_adapter(adapter, folders[adapter])
        there = pool.log_probabilities(messages, "bonsoir", adapter=adapter)
        # fp32 on both sides; sums in another order differ in the last bits.
        assert np.allclose(there, here.log_probabilities(messages, "bonsoir", adapter=adapter), atol=1e-4)
        means.append(float(np.mean(there)))
    assert min(abs(a - b) for i, a in enumerate(means) for b in means[:i]) > 0.05


def test_a_greedy_answer_is_that_of_transformers_and_a_drawn_one_depends_on_its_seed(pool: GeneratorPool, folders: dict[str, Path]) -> None:
    here = TransformersGenerator(folders[""], base="tiny", threads=1, precision="float32")
    for text in ("bonjour", "été", "12 €"):
        theirs, ours = pool.generate([ask(text)])[0], here.generate([ask(text)])[0]
        # A character whose last byte has not come is left out there, and shown as U+FFFD here.
        assert ours.text.startswith(theirs.text)
        assert ours.text.removeprefix(theirs.text).strip("\ufffd") == ""
        assert theirs.input_tokens == ours.input_tokens
    drawn = [pool.generate([ask(temperature=1.0, seed=seed)])[0].text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_schema_is_enforced_while_decoding(pool: GeneratorPool) -> None:
    """The tiny model knows no JSON at all: what is valid here, the decoding made so."""
    answers = pool.generate([ask(str(i), schema=SCHEMA, max_tokens=60, temperature=1.0, seed=i, adapter=FIRST) for i in range(8)])
    for answer in answers:
        found = json.loads(answer.text)
        assert json.dumps(found) == answer.text
        assert found["form"] in {"permit", "canteen"}
        assert 0 <= found["pages"] <= 99
        assert answer.finish_reason == "stop"
    assert len({answer.text for answer in answers}) > 1


def test_a_schema_that_cannot_be_enforced_is_refused(vllm: Service, pool: GeneratorPool) -> None:
    server = OpenAIServer(f"{vllm.url}/v1", parallel=1, connect_seconds=5, read_seconds=60)
    for schema in ({"type": "nonsense"}, {"type": "array", "uniqueItems": True}, {"$ref": "#/absent"}):
        with pytest.raises(DependencyError) as caught:
            server.complete(ask(schema=schema), model="base")
        assert caught.value.fields["status"] == 400
    assert pool.generate([ask()])


def test_a_stream_gives_what_a_whole_answer_gives(pool: GeneratorPool) -> None:
    for adapter in (None, FIRST):
        request = ask("compte", adapter=adapter, max_tokens=40)
        assert "".join(pool.stream(request)) == pool.generate([request])[0].text


def test_an_adapter_is_unloaded_while_it_answers_and_is_gone_then(pool: GeneratorPool, folders: dict[str, Path]) -> None:
    whole = pool.generate([ask("compte", adapter=SECOND, max_tokens=200)])[0].text
    stream = pool.stream(ask("compte", adapter=SECOND, max_tokens=200))
    begun = next(stream)
    pool.unload_adapter(SECOND)
    with pytest.raises(UnknownObjectError):
        pool.generate([ask(adapter=SECOND)])
    assert begun + "".join(stream) == whole
    # Other files under the name of one that is gone: nothing that was computed for the first may be used.
    pool.load_adapter(SECOND, folders[FIRST])
    assert pool.generate([ask(adapter=SECOND)]) == pool.generate([ask(adapter=FIRST)])
    pool.unload_adapter(SECOND)
    pool.load_adapter(SECOND, folders[SECOND])
    assert pool.generate([ask("compte", adapter=SECOND, max_tokens=200)])[0].text == whole


def test_nobody_outside_reaches_the_server(vllm: Service, pool: GeneratorPool) -> None:
    sockets = {
        str(link.readlink()) for pid in descendants(vllm.child.pid) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()
    }
    listening: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening[fields[1]] = table
    loopback = re.compile(r"^(0100007F|00000000000000000000000001000000|0000000000000000FFFF00000100007F):")
    assert len(listening) > 1
    assert [address for address in listening if not loopback.match(address)] == []
    (command,) = [command for command in descendants(vllm.child.pid).values() if "processes.py lead" in command]
    server = OpenAIServer(
        f"http://127.0.0.1:{re.findall(r'--port=([0-9]+)', command)[0]}/v1", parallel=1, connect_seconds=5, read_seconds=5
    )
    with pytest.raises(DependencyError, match="401"):
        server.send("POST", "/load_lora_adapter", {"lora_name": "x", "lora_path": "/"})


def test_figures(vllm: Service, pool: GeneratorPool, capsys: pytest.CaptureFixture[str]) -> None:
    memory: dict[int, int] = {}
    for pid in descendants(vllm.child.pid):
        (line,) = re.findall(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        memory[pid] = int(line)
    (seconds,) = re.findall(r'"The engine is ready.", "seconds": ([0-9.]+)', vllm.log())
    with capsys.disabled():
        sys.stderr.write(
            f"\nThe service with vLLM: ready after {seconds} s, {sum(memory.values()) / 1e6:.1f} GB in {len(memory)} processes.\n"
        )


def test_an_engine_that_is_killed_ends_the_service_and_leaves_nothing(vllm: Service, pool: GeneratorPool) -> None:
    """The last test over this server."""
    processes = descendants(vllm.child.pid)
    (core,) = [pid for pid, command in processes.items() if "EngineCore" in command]
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(pool.generate, [ask("secret-word", max_tokens=400)]) for _ in range(4)]
        time.sleep(0.3)
        os.kill(core, signal.SIGKILL)
        started = time.monotonic()
        for answer in waiting:
            with pytest.raises(DependencyError):
                answer.result(60)
        assert time.monotonic() - started < 30
    assert within(30, lambda: vllm.child.poll() is not None)
    assert within(30, lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert "vLLM has ended." in vllm.log()
    assert "secret-word" not in vllm.log()
