"""A real HTTP server that speaks enough of the OpenAI protocol, and fails when told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Failure = str
"""`503`, `500`, `400`, `302`, `not_json`, `no_choices`, `cut` (a stream without its end mark), `error_event`, `slow`."""


class OpenAIServer:
    """Echoes the last user message, in capitals, and prefixed with the model's name when it is not the base."""

    def __init__(self) -> None:
        self.adapters: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.failure: Failure | None = None
        self.digest = "d1"
        self.log_probabilities = [-0.5, -1.5]
        self.pause_seconds = 0.0
        self.release = threading.Event()
        self.url = ""

    def answer(self, body: dict[str, Any]) -> str:
        said = body["messages"][-1]["content"].upper()
        return said if body["model"] == "base" else f"{body['model']}: {said}"


@contextmanager
def serve_openai(address: str = "127.0.0.1") -> Iterator[OpenAIServer]:
    """The server on a free port of an address of this machine, until the block ends."""
    state = OpenAIServer()

    class Handler(_Handler):
        server_state = state

    server = ThreadingHTTPServer((address, 0), Handler)
    state.url = f"http://{address}:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_state: OpenAIServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        names = ["base", *self.server_state.adapters]
        self._json(200, {"data": [{"id": name, "affinage": {"digest": self.server_state.digest}} for name in names]})

    def do_POST(self) -> None:
        state = self.server_state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state.bodies.append(body)
        state.headers.append(dict(self.headers))
        if self.path.endswith("/load_lora_adapter"):
            state.adapters[body["lora_name"]] = body["lora_path"]
            self._json(200, {})
        elif self.path.endswith("/unload_lora_adapter"):
            del state.adapters[body["lora_name"]]
            self._json(200, {})
        elif state.failure in {"503", "500", "400", "302"}:
            self._json(int(state.failure), {"error": {"message": body["messages"][-1]["content"]}})
        elif state.failure == "not_json":
            self._raw(200, b"<html>")
        elif state.failure == "no_choices":
            self._json(200, {"choices": []})
        elif state.failure == "slow":
            state.release.wait(30)
        elif body["model"] != "base" and body["model"] not in state.adapters:
            self._json(404, {"error": {"message": "no such model"}})
        elif self.path.endswith("/log_probabilities"):
            self._json(200, {"log_probabilities": state.log_probabilities})
        elif body.get("stream"):
            self._stream(body)
        else:
            self._complete(body)

    def _complete(self, body: dict[str, Any]) -> None:
        text = self.server_state.answer(body)
        time.sleep(self.server_state.pause_seconds * len(text))
        words = text.split()
        finish = "length" if len(words) > body["max_tokens"] else "stop"
        choice = {"message": {"role": "assistant", "content": " ".join(words[: body["max_tokens"]])}, "finish_reason": finish}
        self._json(200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": min(len(words), body["max_tokens"])}})

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._event({"choices": [{"delta": {"role": "assistant"}}]})
        state = self.server_state
        for character in state.answer(body):
            self._event({"choices": [{"delta": {"content": character}}]})
            time.sleep(state.pause_seconds)
        if state.failure == "error_event":
            self._event({"error": {"message": "out of memory"}})
        elif state.failure != "cut":
            self._event({"choices": [], "usage": {}})
            self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, content: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode())

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._raw(status, json.dumps(content).encode())

    def _raw(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
