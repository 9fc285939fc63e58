"""A causal language model in a vLLM server of our own, with several LoRA adapters.

The server is a child process that only this process may ask. It is sent token ids and never text: so what people wrote
cannot become a control token, and what the server says before it dies quotes nobody. Called by wiring. Knows nothing of
assistants and templates of prompts; never logs text.
"""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from affinage.engines.chat import encode_prompt, encode_target
from affinage.engines.lora import CONFIG, WEIGHTS
from affinage.engines.openai_http import CONNECT_SECONDS, OpenAIServer
from affinage.engines.protocols import Generation, GenerationRequest, Message
from affinage.engines.transformers import read_tokenizer, too_long
from affinage.engines.vllm_process import VllmProcess
from affinage.errors import DependencyError, UnknownObjectError, UsageError

START_SECONDS = 3600.0
"""Longer than any model takes to load; in a cluster the pod's startup probe is shorter."""
SILENCE_SECONDS = 600.0
"""Longest silence of the server: a whole answer, behind those that came before it."""
SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it, and so as adapters learn it. Left free, weak models fill their answer with white space."""
_POLL_SECONDS = 0.2
_HTTP_BAD_REQUEST = 400
_ZEROS, _ZEROS_RANK = "#zeros", 8
log = logging.getLogger("affinage.engines")


class VllmGenerator:
    """A generator over one Hugging Face folder (safetensors), once `start` has returned.

    Parameters
    ----------
    folder
        config.json, *.safetensors, tokenizer with a chat template.
    base
        Name of the base, as registered.
    matrices
        Shape of each matrix that adapters may change, by the module's name.
    gpu
        Whether there is one. Without, nothing is compiled, and what is asked of the base is asked of an adapter of zeros: vLLM 0.32
        gives the base, beside others, what lies in its last slot.
    python, threads, precision, adapters, max_rank, ended
        As for `VllmProcess`.
    """

    parallel = 32
    """Calls of `generate` it answers at once: the server batches them from token to token."""

    def __init__(
        self,
        folder: Path,
        *,
        base: str,
        python: Path,
        threads: int,
        precision: Literal["bfloat16", "float32"],
        gpu: bool,
        adapters: int,
        max_rank: int,
        matrices: Mapping[str, tuple[int, ...]],
        ended: Callable[[], None],
    ) -> None:
        self.folder = folder
        self._base = base
        self._process = VllmProcess(
            folder,
            name=base,
            python=python,
            threads=threads,
            precision=precision,
            eager=not gpu,
            requests=2 * self.parallel,  # as many streams as whole answers
            adapters=adapters,
            max_rank=max_rank,
            modules=sorted({name.rpartition(".")[2] for name in matrices}),
            ended=ended,
        )
        self._server = OpenAIServer(
            self._process.url,
            parallel=2 * self.parallel,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=SILENCE_SECONDS,
            headers={"Authorization": f"Bearer {self._process.secret}"},
        )
        self._limit = 0
        self._gpu = gpu
        self._matrices = dict(matrices)
        self._bare = base
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._loaded: dict[str, _Adapter] = {}
        self._serial = itertools.count(1)

    @property
    def base(self) -> str:
        """Name of the base, as registered."""
        return self._base

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer."""
        return read_tokenizer(self.folder)

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises
        ------
        DependencyError
            If it ends before that, or needs more than `START_SECONDS`.
        """
        self._process.start()
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.has_ended(_POLL_SECONDS):
                raise self._process.failure("ended before it was ready")
            if time.monotonic() > until:
                raise self._process.failure(f"was not ready in {START_SECONDS:g} s")
        if not self._gpu:
            with tempfile.TemporaryDirectory(prefix="affinage-zeros-") as folder:
                _write_zeros(Path(folder), *next(iter(self._matrices.items())))
                self._server.send("POST", "/load_lora_adapter", {"lora_name": _ZEROS, "lora_path": folder})
            self._bare = _ZEROS
        log.info("vLLM answers.", extra={"context_tokens": self._limit})

    def stop(self) -> None:
        """End the server; nothing more may be asked."""
        self._process.stop()

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Answers in the order of `requests`. A `schema` is enforced while decoding.

        Raises
        ------
        UnknownObjectError
            If a request names an adapter that is not loaded.
        UsageError
            If a prompt and its answer do not fit the base's context, or vLLM does not know a part of the schema.
        DependencyError
            If the server has ended, or is silent for `SILENCE_SECONDS`.
        """
        if len(requests) == 1:
            return [self._one(requests[0])]
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="generate") as threads:
            return list(threads.map(self._one, requests))

    def stream(self, request: GenerationRequest) -> Generator[str, None, Generation]:
        """The answer in pieces, and at their end what they make together; raises as `generate` does."""
        prompt = self._prompt(request)
        said, finish = "", None
        usage: dict[str, Any] = {}
        with self._use(request.adapter) as model, _refusals():
            body = {**_body(request, prompt, model), "stream": True, "stream_options": {"include_usage": True}}
            for content in self._server.events("/completions", body, adapter=request.adapter):
                usage = content.get("usage") or usage
                for choice in content.get("choices") or ():
                    finish = choice.get("finish_reason") or finish
                    if choice["text"]:
                        said += choice["text"]
                        yield choice["text"]
        return _generation(said, usage, finish)

    def log_probabilities(self, messages: Sequence[Message], target: str, *, adapter: str | None = None) -> list[float]:
        """Log-probability of each token of `target`, and of the end token after it, given `messages`.

        Raises
        ------
        UsageError
            If prompt and answer do not fit the base's context.
        """
        prompt, answer = encode_prompt(self.tokenizer, messages), encode_target(self.tokenizer, target)
        # vLLM generates one token at least, whatever is wanted.
        self._check_length(len(prompt), len(answer) + 1)
        with self._use(adapter) as model, _refusals():
            body = {"model": model, "prompt": prompt + answer, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
            content = self._server.json("POST", "/completions", body, adapter=adapter)
        try:
            told = content["choices"][0]["prompt_logprobs"][-len(answer) :]
            return [float(of[str(token)]["logprob"]) for of, token in zip(told, answer, strict=True)]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._server.nonsense() from error

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the PEFT folder available under `name`; the same name again is a no-op.

        Raises
        ------
        DependencyError
            If the folder is not a LoRA adapter for this base; what was loaded before stays loaded.
        """
        with self._changing:
            if name in self._loaded:
                return
            # Another name at each load: vLLM keeps what it computed for a name, whatever files come under it next.
            adapter = _Adapter(f"{name}#{next(self._serial)}")
            try:
                self._server.send("POST", "/load_lora_adapter", {"lora_name": adapter.key, "lora_path": str(folder)})
            except DependencyError as error:
                if error.retryable:
                    raise
                raise DependencyError(
                    "engine",
                    f"The adapter `{name}` does not load on the base `{self._base}`.",
                    hint="It must be a PEFT LoRA folder trained on this base.",
                    retryable=False,
                ) from error
            self._loaded[name] = adapter

    def unload_adapter(self, name: str) -> None:
        """Forget `name`; absent is fine. What is being answered with it is answered."""
        with self._changing, self._lock:
            adapter = self._loaded.pop(name, None)
            if adapter is None:
                return
            adapter.leaving = True
            idle = adapter.users == 0
        if idle:
            self._drop(adapter)

    def adapters(self) -> list[str]:
        """Names of the loaded adapters, sorted."""
        return sorted(self._loaded.copy())

    def _one(self, request: GenerationRequest) -> Generation:
        prompt = self._prompt(request)
        with self._use(request.adapter) as model, _refusals():
            content = self._server.json("POST", "/completions", _body(request, prompt, model), adapter=request.adapter)
        try:
            choice = content["choices"][0]
            return _generation(choice["text"], content["usage"], choice["finish_reason"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._server.nonsense() from error

    @contextmanager
    def _use(self, name: str | None) -> Iterator[str]:
        """What the server calls the model, which is not unloaded meanwhile: vLLM does not look whether it is in use."""
        if name is None:
            yield self._bare
            return
        with self._lock:
            adapter = self._loaded.get(name)
            if adapter is None:
                raise UnknownObjectError("loaded adapter", name, hint="Load it first; no other adapter answers in its place.")
            adapter.users += 1
        try:
            yield adapter.key
        finally:
            with self._lock:
                adapter.users -= 1
                last = adapter.leaving and adapter.users == 0
            if last:
                self._drop(adapter)

    def _drop(self, adapter: _Adapter) -> None:
        try:
            self._server.send("POST", "/unload_lora_adapter", {"lora_name": adapter.key})
        except DependencyError:
            # Nobody can ask for it any more; it takes memory until the server ends.
            log.warning("vLLM did not unload an adapter.", extra={"adapter": adapter.key})

    def _prompt(self, request: GenerationRequest) -> list[int]:
        prompt = encode_prompt(self.tokenizer, request.messages)
        self._check_length(len(prompt), request.max_tokens)
        return prompt

    def _check_length(self, prompt: int, answer: int) -> None:
        if prompt + answer > self._limit:
            raise too_long(prompt, answer, limit=self._limit, base=self._base)

    def _answers(self) -> bool:
        try:
            (model,) = self._server.models(read_seconds=CONNECT_SECONDS)
        except (DependencyError, ValueError):  # nobody yet
            return False
        # What fits the memory for keys and values; at most what the base was trained for.
        self._limit = int(model["max_model_len"])
        return True


@dataclass
class _Adapter:
    """A loaded adapter: what vLLM calls it, the requests that use it, and whether the last of them unloads it."""

    key: str
    users: int = 0
    leaving: bool = False


@contextmanager
def _refusals() -> Iterator[None]:
    """The server's statuses are not ours: 400 is the caller's mistake, what else it refuses is its own."""
    try:
        yield
    except DependencyError as error:
        status = error.fields.pop("status", None)
        if status == _HTTP_BAD_REQUEST:
            hint = "It does not enforce every part of JSON Schema."
            raise UsageError("vLLM refuses the request.", hint=hint, param="response_format") from error
        raise


def _write_zeros(folder: Path, module: str, shape: tuple[int, ...]) -> None:
    """A LoRA folder that changes nothing."""
    out, inside = shape
    weights = {
        f"base_model.model.{module}.lora_A.weight": np.zeros((_ZEROS_RANK, inside), dtype=np.float32),
        f"base_model.model.{module}.lora_B.weight": np.zeros((out, _ZEROS_RANK), dtype=np.float32),
    }
    save_file(weights, folder / WEIGHTS)
    target = module.rpartition(".")[2]
    config = {"peft_type": "LORA", "r": _ZEROS_RANK, "lora_alpha": _ZEROS_RANK, "target_modules": [target], "bias": "none"}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def _body(request: GenerationRequest, prompt: list[int], model: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.schema is not None:
        body["structured_outputs"] = {"json": {**request.schema, "x-guidance": SEPARATORS}}
    return body


def _generation(text: str, usage: dict[str, Any], finish: str | None) -> Generation:
    reason: Literal["stop", "length"] = "length" if finish == "length" else "stop"
    return Generation(text, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)), reason)
