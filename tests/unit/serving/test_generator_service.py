"""The generator's service over an engine of a few lines: what it accepts, refuses, batches and streams."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from affinage.engines.adapter_archive import write_archive
from affinage.engines.protocols import Generation, GenerationRequest, Message
from affinage.engines.vllm import VllmGenerator
from affinage.errors import DependencyError, UnknownObjectError
from affinage.serving import generator, shelf
from affinage.serving.batching import Batcher
from affinage.serving.generator import GeneratorService
from affinage.telemetry import EngineMetrics
from tests.support.adapters import HIDDEN, MODULES, write_adapter, write_base
from tests.support.generators import Echo
from tests.support.tiny_llama import write_tokenizer
from tests.support.vllm_double import CAUSE, write_double

ADAPTER = "guichet@11111111"


@pytest.fixture
def engine(tmp_path: Path) -> Echo:
    return Echo(write_base(tmp_path / "base"))


@pytest.fixture
def client(engine: Echo) -> Iterator[TestClient]:
    service = GeneratorService(make_engine=lambda: engine, metrics=EngineMetrics("generator"), failed=pytest.fail)
    service.start()
    with TestClient(service.app(), raise_server_exceptions=False) as client:
        until = time.monotonic() + 10
        while not service.ready and time.monotonic() < until:
            time.sleep(0.005)
        engine.batches.clear()
        yield client


def started(vllm: VllmGenerator) -> VllmGenerator:
    vllm.start()
    return vllm


@contextmanager
def over_double(folder: Path, behaviour: str) -> Iterator[tuple[TestClient, GeneratorService, threading.Event]]:
    """The service over the vLLM engine and a program that plays its server, and whether the process would have ended."""
    base, ended = write_base(folder / "base"), threading.Event()
    write_tokenizer(base)
    service = GeneratorService(make_engine=lambda: started(vllm), metrics=EngineMetrics("generator"), failed=ended.set)
    vllm = VllmGenerator(
        base,
        base="tiny",
        python=write_double(folder, behaviour),
        threads=1,
        precision="float32",
        gpu=True,
        adapters=4,
        max_rank=16,
        matrices={"model.layers.0.mlp.down_proj": (16, 16)},
        ended=service.engine_ended,
    )
    service.start()
    try:
        with TestClient(service.app(), raise_server_exceptions=False) as client:
            until = time.monotonic() + 30
            while not service.ready and time.monotonic() < until:
                time.sleep(0.01)
            yield client, service, ended
    finally:
        vllm.stop()


def body(text: str = "bonjour", **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def ask(client: TestClient, text: str = "bonjour", **more: Any) -> Any:
    return client.post("/v1/chat/completions", json=body(text, **more))


def error_of(response: Any) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


def archive(folder: Path) -> bytes:
    file = io.BytesIO()
    write_archive(folder, file)
    return file.getvalue()


def events(response: Any) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


# Answers


def test_an_answer_has_the_shape_of_openai(client: TestClient) -> None:
    content = ask(client).json()
    assert content["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "BONJOUR"}, "finish_reason": "stop"}]
    assert content["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    assert (content["object"], content["model"]) == ("chat.completion", "tiny")


def test_a_stream_ends_with_reason_usage_and_mark(client: TestClient) -> None:
    *chunks, reason, usage, mark = events(ask(client, "été", stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "ÉTÉ"
    assert reason["choices"][0]["finish_reason"] == "stop"
    assert (usage["usage"]["total_tokens"], mark) == (4, "[DONE]")


def test_the_base_is_listed_first_with_its_digest(client: TestClient, tmp_path: Path) -> None:
    client.put(f"/v1/adapters/{ADAPTER}", content=archive(write_adapter(tmp_path / "a")))
    listed = client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["tiny", ADAPTER]
    assert listed["affinage"] == {"base": "tiny", "digest": listed["data"][0]["affinage"]["digest"]}
    assert len({model["affinage"]["digest"] for model in listed["data"]}) == 2


def test_log_probabilities_are_of_the_model_that_was_named(client: TestClient, tmp_path: Path) -> None:
    client.put(f"/v1/adapters/{ADAPTER}", content=archive(write_adapter(tmp_path / "a")))
    asked = {"messages": [{"role": "user", "content": "x"}], "target": "un deux"}
    assert client.post("/v1/log_probabilities", json={"model": "tiny", **asked}).json()["log_probabilities"] == [-1.1, -1.1]
    assert client.post("/v1/log_probabilities", json={"model": ADAPTER, **asked}).json()["log_probabilities"] == [-0.1, -0.1]
    assert client.post("/v1/log_probabilities", json={"model": "x@1", **asked}).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_404_and_never_another_one(client: TestClient, stream: bool) -> None:
    for model in ("tiny@11111111", "TINY", ""):
        response = ask(client, model=model, stream=stream)
        assert (response.status_code, error_of(response)["code"], error_of(response)["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x"}] * 257}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_a_wrong_key_is_named(client: TestClient, change: dict[str, Any], param: str) -> None:
    response = ask(client, **change)
    assert (response.status_code, error_of(response)["param"]) == (400, param)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"model": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(client: TestClient, content: bytes) -> None:
    assert error_of(client.post("/v1/chat/completions", content=content))["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_refused(client: TestClient) -> None:
    response = ask(client, "x" * (1 << 20))
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")


def test_an_engine_that_refuses_says_so_before_the_first_byte(client: TestClient) -> None:
    assert [ask(client, "too long", stream=stream).status_code for stream in (False, True)] == [400, 400]


@pytest.mark.parametrize("fault", [UnknownObjectError("loaded adapter", ADAPTER), RuntimeError("quotes the question")])
def test_a_stream_that_fails_ends_with_an_error_and_without_its_mark(client: TestClient, engine: Echo, fault: Exception) -> None:
    engine.fault = fault
    *pieces, last = events(ask(client, stream=True))
    assert len(pieces) == 4
    assert "error" in last
    assert "quotes" not in str(last)


# Many at once


def test_what_waits_is_answered_together_and_one_fault_is_not_shared(client: TestClient, engine: Echo) -> None:
    engine.open.clear()
    with ThreadPoolExecutor(12) as threads:
        texts = ["too long" if i == 7 else f"q{i}" for i in range(12)]
        responses = [threads.submit(ask, client, text) for text in texts]
        time.sleep(0.5)  # all of them wait by now, behind the first
        engine.open.set()
        statuses = [response.result().status_code for response in responses]
        said = [r.result().json()["choices"][0]["message"]["content"] for i, r in enumerate(responses) if i != 7]
    assert statuses == [400 if i == 7 else 200 for i in range(12)]
    assert said == [f"Q{i}" for i in range(12) if i != 7]
    assert max(engine.batches) > 1  # together, and those with the faulty one again by themselves


def test_beyond_what_may_wait_a_request_is_refused_at_once() -> None:
    started, release = threading.Event(), threading.Event()

    def generate(requests: Sequence[GenerationRequest]) -> list[Generation]:
        started.set()
        release.wait(10)
        return [Generation("x", 1, 1, "stop") for _ in requests]

    batcher = Batcher(generate, rows=2, waiting=2)
    request = GenerationRequest((Message("user", "x"),))
    running = batcher.submit(request)
    assert started.wait(10)
    waiting = [batcher.submit(request) for _ in range(2)]
    with pytest.raises(DependencyError) as caught:
        batcher.submit(request)
    assert caught.value.retryable
    assert waiting[0].cancel()
    release.set()
    assert (running.result(10).text, waiting[1].result(10).text) == ("x", "x")


def test_too_many_streams_are_refused_and_their_places_come_back(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "MAX_STREAMS", 1)
    assert [ask(client, stream=True).status_code for _ in range(3)] == [200, 200, 200]
    ask(client, "too long", stream=True)
    assert ask(client, stream=True).status_code == 200
    monkeypatch.setattr(generator, "MAX_STREAMS", 0)
    response = ask(client, stream=True)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


# Adapters


def test_an_adapter_is_loaded_once_under_its_name_and_unloaded(client: TestClient, engine: Echo, tmp_path: Path) -> None:
    files, others = (archive(write_adapter(tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    assert client.put(f"/v1/adapters/{ADAPTER}", content=files).status_code == 201
    assert client.put(f"/v1/adapters/{ADAPTER}", content=files).status_code == 200
    response = client.put(f"/v1/adapters/{ADAPTER}", content=others)
    assert (response.status_code, error_of(response)["code"]) == (409, "conflict")
    assert ask(client, model=ADAPTER).json()["choices"][0]["message"]["content"] == f"{ADAPTER}: BONJOUR"
    assert [client.delete(f"/v1/adapters/{ADAPTER}").status_code for _ in range(2)] == [200, 200]
    assert engine.adapters() == []
    assert ask(client, model=ADAPTER).status_code == 404


@pytest.mark.parametrize(
    "name", ["..", "a", "@1", "a@", "a@xyz", "A@1", "a@1%00", "..%2Fa@1", "a%2F..%2Fb@1", ".hidden@1", "a@1%0A", "x" * 101 + "@1", "a b@1"]
)
def test_a_name_that_is_no_adapter_never_becomes_a_path(client: TestClient, engine: Echo, tmp_path: Path, name: str) -> None:
    files = archive(write_adapter(tmp_path / "a"))
    for response in (client.put(f"/v1/adapters/{name}", content=files), client.delete(f"/v1/adapters/{name}")):
        assert response.status_code in {400, 404}
    assert engine.adapters() == []


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"x" * 10_000,
        tar_of((member(CONFIG), b"{}")),
        tar_of((member(CONFIG), b"{}"), (member(WEIGHTS), b"x"), (member("README.md"), b"x")),
        tar_of((member(CONFIG), b"{}"), (member(CONFIG), b"{}"), (member(WEIGHTS), b"x")),
        tar_of((member(f"../{CONFIG}"), b"{}"), (member(WEIGHTS), b"x")),
        tar_of((member(f"/{CONFIG}"), b"{}"), (member(WEIGHTS), b"x")),
        tar_of((member(f"./{CONFIG}"), b"{}"), (member(WEIGHTS), b"x")),
        tar_of((member(CONFIG), b"{}"), (member(WEIGHTS, tarfile.SYMTYPE, "/etc/passwd"), b"")),
        tar_of((member(CONFIG), b"{}"), (member(WEIGHTS, tarfile.LNKTYPE, CONFIG), b"")),
        tar_of((member(CONFIG), b"{}"), (member(WEIGHTS, tarfile.FIFOTYPE), b"")),
        tar_of((member(CONFIG), b"{" * (1 << 21)), (member(WEIGHTS), b"x")),
    ],
)
def test_an_archive_that_is_not_exactly_two_files_is_refused(client: TestClient, engine: Echo, content: bytes) -> None:
    response = client.put(f"/v1/adapters/{ADAPTER}", content=content)
    assert response.status_code == 400
    error_of(response)
    assert engine.adapters() == []


def test_an_archive_beyond_the_limit_is_refused_while_it_comes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MAX_ARCHIVE_BYTES", 1000)
    assert client.put(f"/v1/adapters/{ADAPTER}", content=b"x" * 1001).status_code == 413


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": {"peft_type": "IA3"}}, "IA3"),
        ({"config": {"auto_mapping": {"parent_library": "os"}}}, "auto_mapping"),
        ({"rank": 128}, "rank"),
        ({"config": {"r": 8}}, "rank"),
        ({"tensors": {f"base_model.model.{MODULES[0]}.lora_A.weight": None}}, "missing"),
        ({"tensors": {f"base_model.model.{MODULES[0]}.lora_A.weight": np.full((4, HIDDEN), np.nan, "f4")}}, "NaN"),
        ({"tensors": {f"base_model.model.{MODULES[0]}.lora_A.weight": np.ones((4, 8), "f4")}}, "the base has"),
    ],
)
def test_unsound_files_are_refused_with_the_reason(
    client: TestClient, engine: Echo, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    response = client.put(f"/v1/adapters/{ADAPTER}", content=archive(write_adapter(tmp_path / "a", **change)))
    assert response.status_code == 422
    assert reason in error_of(response)["message"]
    assert engine.adapters() == []


def test_what_the_engine_does_not_take_is_refused_and_forgotten(client: TestClient, engine: Echo, tmp_path: Path) -> None:
    files = archive(write_adapter(tmp_path / "a"))
    engine.fault = DependencyError("engine", "not for this base", retryable=False)
    assert client.put(f"/v1/adapters/{ADAPTER}", content=files).status_code == 422
    engine.fault = DependencyError("engine", "nobody answers")
    assert client.put(f"/v1/adapters/{ADAPTER}", content=files).status_code == 503
    engine.fault = None
    assert client.put(f"/v1/adapters/{ADAPTER}", content=files).status_code == 201


# Readiness


def test_until_the_weights_have_answered_nothing_is_served(engine: Echo) -> None:
    engine.open.clear()
    service = GeneratorService(make_engine=lambda: engine, metrics=EngineMetrics("generator"), failed=pytest.fail)
    with TestClient(service.app()) as client:
        service.start()
        assert (service.ready, client.get("/v1/models").status_code, ask(client).status_code) == (False, 503, 503)
        engine.open.set()
        until = time.monotonic() + 10
        while not service.ready and time.monotonic() < until:
            time.sleep(0.005)
        assert client.get("/v1/models").status_code == 200


def test_an_engine_that_cannot_be_loaded_ends_the_process() -> None:
    ended = threading.Event()

    def make() -> Any:
        raise DependencyError("engine", "no weights")

    service = GeneratorService(make_engine=make, metrics=EngineMetrics("generator"), failed=ended.set)
    service.start()
    assert ended.wait(10)
    assert not service.ready


def test_an_engine_that_takes_many_calls_gets_them_at_once(tmp_path: Path) -> None:
    """The double answers when eight ask it at the same time: no batch is waited for."""
    with over_double(tmp_path, "together") as (client, service, _ended), ThreadPoolExecutor(8) as threads:
        statuses = [response.status_code for response in threads.map(lambda _: ask(client), range(8))]
        assert statuses == [200] * 8
        assert service.ready


def test_an_engine_that_dies_leaves_nobody_waiting_and_ends_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with over_double(tmp_path, "dies") as (client, service, ended), ThreadPoolExecutor(4) as threads:
        responses = list(threads.map(lambda i: ask(client, "Où est mon dossier ?", stream=i == 0), range(4)))
        assert [response.status_code for response in responses] == [503] * 4
        assert ended.wait(10)
        assert not service.ready
        assert ask(client).status_code == 503
    assert any(CAUSE in getattr(record, "causes", ()) for record in caplog.records)
    assert "dossier" not in str([vars(record) for record in caplog.records])


def test_metrics_have_bounded_labels(client: TestClient) -> None:
    ask(client)
    ask(client, stream=True)
    client.delete("/v1/adapters/a@1")
    client.delete("/v1/adapters/b@2")
    client.get("/v1/somebodys-typo")
    text = client.get("/metrics").text
    assert 'affinage_generator_requests_total{route="/v1/chat/completions",status="200"} 2.0' in text
    assert 'affinage_generator_requests_total{route="/v1/adapters/{name}",status="200"} 2.0' in text
    assert "affinage_generator_inflight 0.0" in text
    assert 'affinage_generator_tokens_total{direction="output"} 2.0' in text
    assert "somebodys-typo" not in text
