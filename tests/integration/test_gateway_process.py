"""A real gateway process with a real index, met by the unmodified `openai` client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from affinage.settings import Settings
from affinage.wiring import Affinage
from tests.support.process import Process, installed

pytestmark = pytest.mark.integration
QUESTION = "How long is a parking permit valid?"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home = installed(tmp_path_factory.mktemp("gateway"))
    with Process(home, "serve", "gateway") as started:
        yield started


@pytest.fixture(scope="module")
def key(process: Process) -> str:
    return process.key("alice")


@pytest.fixture
def client(process: Process, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{process.url}/v1", api_key=key, max_retries=0, timeout=60)


def test_the_client_lists_models_and_gets_an_answer_with_sources(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["guichet"]
    assert client.models.retrieve("guichet").owned_by == "default"
    raw = client.chat.completions.with_raw_response.create(model="guichet", messages=[{"role": "user", "content": QUESTION}])
    answer = raw.parse()
    assert answer.choices[0].message.content == "A parking permit is valid for two years. [1]"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    about = answer.model_extra["affinage"]  # type: ignore[index]
    assert about["citations"][0]["document"] == "handbook/public/permits.md"
    assert raw.headers["x-affinage-answer-id"] == about["answer_id"]


def test_the_client_streams_the_same_answer(client: openai.OpenAI):
    stream = client.chat.completions.create(
        model="guichet", messages=[{"role": "user", "content": QUESTION}], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert (
        "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        == "A parking permit is valid for two years. [1]"
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].model_extra["affinage"]["known"] is True  # type: ignore[index]


def test_errors_become_the_clients_own_exceptions(process: Process, client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nonsense", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="guichet", messages=[{"role": "user", "content": "x"}], n=2)
    assert wrong.value.param == "n"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{process.url}/v1", api_key="wrong", max_retries=0).models.list()


def test_feedback_is_on_disk_when_it_is_acknowledged(process: Process, client: openai.OpenAI, key: str):
    answer = client.chat.completions.create(model="guichet", messages=[{"role": "user", "content": QUESTION}])
    answer_id = answer.model_extra["affinage"]["answer_id"]  # type: ignore[index]
    body = json.dumps({"answer_id": answer_id, "rating": "up"}).encode()
    request = urllib.request.Request(f"{process.url}/v1/feedback", body, {"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 201
    other = Affinage(Settings(home=process.home))
    with other.database.read() as connection:
        assert connection.exec_driver_sql("SELECT rating FROM feedback WHERE answer_id = ?", (answer_id,)).scalar() == "up"
    other.close()


def test_metrics_are_on_their_own_port_and_hold_no_user_and_no_text(process: Process, client: openai.OpenAI):
    client.chat.completions.create(model="guichet", messages=[{"role": "user", "content": QUESTION}])
    with urllib.request.urlopen(f"{process.metrics_url}/metrics", timeout=30) as response:
        text = response.read().decode()
    assert 'affinage_gateway_requests_total{arm="control",assistant="guichet",outcome="ok"}' in text
    assert "alice" not in text
    assert "permit" not in text


def test_a_term_signal_ends_an_idle_gateway_within_five_seconds(process: Process):
    with Process(process.home, "serve", "gateway") as second:
        started = time.monotonic()
        second.child.send_signal(signal.SIGTERM)
        assert second.child.wait(timeout=20) == 0
        assert time.monotonic() - started < 5


def test_a_port_that_is_taken_is_wrong_usage(process: Process):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [
            sys.executable,
            "-m",
            "affinage.cli.main",
            "serve",
            "gateway",
            "--port",
            str(taken.getsockname()[1]),
            "--metrics-port",
            "0",
        ]
        done = subprocess.run(
            command, env={**os.environ, "AFFINAGE_HOME": str(process.home)}, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_the_service_file_is_the_same_application(process: Process, monkeypatch: pytest.MonkeyPatch):
    import importlib.util

    from starlette.testclient import TestClient

    monkeypatch.setenv("AFFINAGE_HOME", str(process.home))
    file = Path(__file__).parents[2] / "services" / "gateway" / "service.py"
    spec = importlib.util.spec_from_file_location("gateway_service", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with TestClient(module.create()) as client:
        assert client.get("/health/live").status_code == 200
