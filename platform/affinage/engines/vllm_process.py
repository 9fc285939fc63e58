"""The process of a vLLM server: how it is started, what it said last, and that it has ended.

Called by the vLLM engine. The server runs with the Python of its own environment, since no set of versions suits vLLM and us.
It listens on the loopback, for whoever reaches it may load anything. Knows nothing of what is asked.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import secrets
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from affinage.errors import DependencyError
from affinage.processes import spawn, stop

DRAIN_SECONDS = 15
"""For answers under way when it is told to end; by itself vLLM cuts them off."""
SLOTS = 8
"""Adapters in one step. Each slot is reserved in full: 0.3 GB for rank 64 on 8 billion parameters."""
KV_CACHE_GIB = 1
"""For keys and values on processors, 45,000 tokens of SmolLM2-135M. By itself vLLM takes what the node has, not the pod."""
log = logging.getLogger("affinage.engines")


class VllmProcess:
    """A vLLM server of one Hugging Face folder.

    Parameters
    ----------
    folder
        config.json, *.safetensors, tokenizer.
    name
        What the server calls the base.
    python
        Interpreter of the environment that vLLM is installed in.
    threads
        Threads of one forward pass on processors.
    precision
        Type of weights and arithmetic.
    eager
        Whether to run the model as it is written: compiling takes a minute at each start and a C++ compiler, which images lack.
    requests
        Answered at once.
    adapters, max_rank, modules
        How many adapters may be loaded, their largest rank, and the last names of the modules that they may change, such as
        `q_proj`. The head must not be one: vLLM 0.32 then dies on processors when it answers anything beside log-probabilities.
    ended
        Called from a thread when the server has ended and nobody had told it to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        python: Path,
        threads: int,
        precision: Literal["bfloat16", "float32"],
        eager: bool,
        requests: int,
        adapters: int,
        max_rank: int,
        modules: Sequence[str],
        ended: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._name = name
        self._python = python
        self._threads = threads
        self._precision = precision
        self._eager = eager
        self._requests = requests
        self._adapters = adapters
        self._max_rank = max_rank
        self._modules = list(modules)
        self._ended = ended
        self._port = _free_port()
        self._words = LastWords()
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = threading.Event()
        self._told = False
        self.secret = secrets.token_hex(16)
        """Who has not got it may not load anything: a port of the loopback is open to every user of a machine."""
        self.url = f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Start it; it does not answer yet."""
        atexit.register(self.stop)
        # The child ends with the thread that started it: this one lives as long as the child does.
        threading.Thread(target=self._watch, name="vllm", daemon=True).start()

    def has_ended(self, within_seconds: float) -> bool:
        """Whether it has ended, or does so in that time."""
        return self._gone.wait(within_seconds)

    def failure(self, what: str) -> DependencyError:
        """The error for a server that `what`, with the causes that it gave."""
        causes = " | ".join(self._words.causes()) or "nothing"
        return DependencyError("engine", f"vLLM {what}.", hint=f"It said: {causes}", retryable=False)

    def stop(self) -> None:
        """End it, after what it answers; nothing more may be asked."""
        self._told = True
        if self._process is not None:
            stop(self._process, grace_seconds=2 * DRAIN_SECONDS, group=True)

    def _watch(self) -> None:
        try:
            self._process = process = spawn(
                self._command(), environment=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, group=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                self._words.hear(line.decode(errors="replace"))
            code = process.wait()
            if self._told:
                return
            log.error("vLLM has ended.", extra={"code": code, "causes": self._words.causes(), "last_words": self._words.last()})
        finally:
            self._gone.set()
        self._ended()

    def _command(self) -> list[str]:
        options: dict[str, object] = {
            "model": self._folder.resolve(),
            "served-model-name": self._name,
            "host": "127.0.0.1",
            "port": self._port,
            "dtype": self._precision,
            # The longest context that fits.
            "max-model-len": -1,
            "max-num-seqs": self._requests,
            "load-format": "safetensors",
            # Sampling is what the request says and nothing else.
            "generation-config": "vllm",
            # It refuses what it cannot enforce; the default only warns.
            "structured-outputs-config": json.dumps({"backend": "guidance"}),
            "max-loras": SLOTS,
            "max-lora-rank": self._max_rank,
            # Those that leave while they are in use come on top. One that fell out would be read again from files that are gone.
            "max-cpu-loras": 2 * self._adapters,
            "shutdown-timeout": DRAIN_SECONDS,
        }
        # Without a cache of beginnings: how soon an answer starts would tell what others asked.
        flags = ["enable-lora", "no-enable-prefix-caching", "disable-uvicorn-access-log", "disable-log-stats", "disable-fastapi-docs"]
        if self._eager:
            flags.append("enforce-eager")
        # The command `vllm` looks for a distribution of that name, which the build for processors is not.
        command = [str(self._python), "-I", "-m", "vllm.entrypoints.openai.api_server", "--lora-target-modules", *self._modules]
        return [*command, *(f"--{key}={value}" for key, value in options.items()), *(f"--{flag}" for flag in flags)]

    def _environment(self) -> dict[str, str]:
        return {
            "VLLM_API_KEY": self.secret,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_PLUGINS": "",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", str(KV_CACHE_GIB)),
            # By itself it takes every core of the node.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(self._threads),
            # Without this it compiles the log-probabilities even where it is told to compile nothing.
            **({"TORCHDYNAMO_DISABLE": "1"} if self._eager else {}),
        }


class LastWords:
    """The end of what a process said, and the errors in it, whose causes stand far above the end. Long lines are cut."""

    _ERROR = re.compile(r"(?:^|\] |: )((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b.*)")

    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=10)
        self._errors: deque[str] = deque(maxlen=5)

    def hear(self, line: str) -> None:
        """Take the next line in."""
        line = line.strip()[:500]
        if not line:
            return
        self._last.append(line)
        found = self._ERROR.search(line)
        if found and found[1] not in self._errors:
            self._errors.append(found[1])

    def last(self) -> list[str]:
        """The last lines."""
        return list(self._last)

    def causes(self) -> list[str]:
        """Errors, the first one first; the last lines where there was none."""
        return list(self._errors) or self.last()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
