"""The orderly end of a gateway: what is in flight is finished, nothing new is taken, probes are answered."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import uvicorn

from affinage.serving.answering import Answered, AskRequest
from affinage.serving.gateway import create_gateway
from affinage.serving.server import _Server, address_of, listen
from tests.support.gateway import QUESTION, Gateway
from tests.support.world import World


def call(url: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Slow:
    """Answers when it is told to."""

    def __init__(self, world: World) -> None:
        self._answering = world.answering()
        self.asked, self.go = threading.Event(), threading.Event()

    def answer(self, request: AskRequest) -> Answered:
        self.asked.set()
        assert self.go.wait(20)
        return self._answering.answer(request)


def test_a_term_signal_drains_and_probes_stay_answered_meanwhile(world: World):
    slow = Slow(world)
    made = Gateway(world, answering=slow)
    headers = made.headers("alice")
    listening = listen("127.0.0.1", 0, option="--port")
    url = address_of(listening.getsockname())
    server = _Server(uvicorn.Config(create_gateway(made.parts), log_level="critical"), made.parts)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    body = {"model": "guichet", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, f"{url}/v1/chat/completions", body, headers)
        assert slow.asked.wait(20)
        server.handle_exit(signal.SIGTERM, None)
        assert call(f"{url}/health/live")[0] == 200
        assert call(f"{url}/health/ready")[0] == 503
        assert call(f"{url}/v1/chat/completions", body, headers)[0] == 503
        slow.go.set()
        status, text = running.result(30)
    assert status == 200
    assert text.endswith("data: [DONE]\n\n")
    thread.join(20)
    assert not thread.is_alive()
    listening.close()
