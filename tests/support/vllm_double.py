"""A program that behaves as vLLM's server does, and fails as it is told: run by this project's own Python, without vLLM.

It is for failures, and for what is sent; what vLLM makes of it is tested with vLLM. Started by `write_double` as if it were an interpreter.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CAUSE = "RuntimeError: Unsupported CPU attention configuration: head_dim=8"
PREFIX = "(Worker pid=7) ERROR 11-21 21:16:52 [multiproc_executor.py:1063] "
SLOW_SECONDS = 2.0


def write_double(folder: Path, behaviour: str = "") -> Path:
    """A file to start as vLLM's Python; what it is told stands in `told.jsonl` beside it.

    Parameters
    ----------
    behaviour
        `dies_at_start`, `never_ready`; asked for an answer: `dies`, `hangs`, `fails` (500), `slow`, `together` (answers when eight ask);
        asked to load an adapter: `refuses`.
    """
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{behaviour}" "{folder}/told.jsonl" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def told(program: Path, path: str = "") -> list[dict[str, Any]]:
    """What the double was sent to a path that ends so."""
    file = program.with_name("told.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["path"].endswith(path)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: str
    file: Path
    name: str
    lock = threading.Lock()
    eight = threading.Barrier(8)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        if self.behaviour == "never_ready":
            time.sleep(3600)
        self._json(200, {"data": [{"id": self.name, "max_model_len": 512}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock, self.file.open("a") as file:
            file.write(json.dumps({"path": self.path, "body": body, "allowed": self.headers["Authorization"]}) + "\n")
        if self.path.endswith("/load_lora_adapter"):
            self._json(400 if self.behaviour == "refuses" else 200, {})
        elif self.path.endswith("/unload_lora_adapter"):
            self._json(200, {})
        elif body["max_tokens"] == 1 and "stream" not in body:  # the token that the service wants before it is ready
            self._answer(body)
        elif self.behaviour == "dies":
            time.sleep(0.3)
            sys.stderr.write(f"{PREFIX}{CAUSE}\n")
            os._exit(1)
        elif self.behaviour == "hangs":
            time.sleep(3600)
        elif self.behaviour == "fails":
            self._json(500, {"error": {"message": "EngineCore encountered an issue."}})
        else:
            if self.behaviour == "slow":
                time.sleep(SLOW_SECONDS)
            elif self.behaviour == "together":
                self.eight.wait(60)
            self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 2}
        if not body.get("stream"):
            self._json(200, {"choices": [{"text": f"{body['model']} says", "finish_reason": "stop"}], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in (body["model"], " says"):
            self._event({"choices": [{"text": piece, "finish_reason": None}]})
        self._event({"choices": [{"text": "", "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, content: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())

    def _json(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _main(behaviour: str, file: str, *arguments: str) -> None:
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments if argument.startswith("--") and "=" in argument)
    if behaviour == "dies_at_start":
        sys.stderr.write(f"{PREFIX}{CAUSE}\n" + "".join(f"{PREFIX}  File {number}\n" for number in range(100)))
        sys.exit(1)
    _Handler.behaviour, _Handler.file, _Handler.name = behaviour, Path(file), options["served-model-name"]
    ThreadingHTTPServer((options["host"], int(options["port"])), _Handler).serve_forever()


if __name__ == "__main__":
    _main(*sys.argv[1:])
