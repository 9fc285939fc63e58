"""A causal language model in this process, with several LoRA adapters: transformers and PEFT.

Requests are grouped by adapter, sorted by length and answered in batches; the prompt's common beginning is computed once
for a batch. Weights and arithmetic are bf16, which is 2 to 2.5 times as fast as fp32 on processors with AVX512-BF16, and
rows of a batch may therefore differ in the last bits from the same row alone. Called by wiring and tuning. Knows nothing of
assistants and templates of prompts; never logs text.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affinage.engines.chat import encode_prompt, encode_target
from affinage.engines.objects import object_is_over
from affinage.engines.protocols import Generation, GenerationRequest, Message
from affinage.errors import DependencyError, UnknownObjectError, UsageError

if TYPE_CHECKING:
    from affinage.engines.decoding import Decoding

MAX_BATCH_ROWS = 32
"""Rows of one batch. 32 rows decode at 1.6 times the speed of 16; beyond that the gain is small and memory is not."""
MAX_BATCH_TOKENS = 16_384
"""Rows times the longest prompt and answer; some 0.8 GiB of keys and values for SmolLM2-135M."""


class TransformersGenerator:
    """A generator over one Hugging Face folder (safetensors).

    The weights are read at first use. Threads of PyTorch are a property of the process: the last generator made decides.

    Parameters
    ----------
    folder
        config.json, *.safetensors, tokenizer with a chat template.
    base
        Name of the base, as registered.
    threads
        Threads of one forward pass.
    precision
        Type of weights and arithmetic. float32 where the processor lacks bf16 instructions, or where a row must not depend
        on its batch.
    """

    parallel = 1
    """Calls of `generate` it answers at once: what is asked together goes into one call."""

    def __init__(self, folder: Path, *, base: str, threads: int, precision: Literal["bfloat16", "float32"] = "bfloat16") -> None:
        self.folder = folder
        self._precision = precision
        self._base = base
        self._threads = threads
        self._lock = threading.RLock()
        self._keys: dict[str, str] = {}  # adapter name → name inside PEFT, where a dot is not allowed
        self._peft: Any = None
        self._made = 0

    @property
    def base(self) -> str:
        """Name of the base, as registered."""
        return self._base

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer."""
        return read_tokenizer(self.folder)

    @cached_property
    def _model(self) -> Any:
        import torch  # noqa: PLC0415
        from safetensors import SafetensorError  # noqa: PLC0415
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        torch.set_num_threads(self._threads)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=getattr(torch, self._precision), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise _unreadable(self.folder, error) from error
        return model.eval().requires_grad_(False)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Answers in the order of `requests`.

        `schema` is not enforced while decoding: the caller validates. It ends an answer early, see `object_is_over`.

        Raises
        ------
        UnknownObjectError
            If a request names an adapter that is not loaded; then nothing was generated.
        UsageError
            If a prompt and its answer do not fit the base's context.
        """
        with self._lock:
            self._check_adapters(requests)
            groups: dict[str | None, list[tuple[int, list[int]]]] = defaultdict(list)
            for i, request in enumerate(requests):
                groups[request.adapter].append((i, self._prompt(request)))
            answers: dict[int, Generation] = {}
            for adapter, rows in groups.items():
                for batch in self._batches(rows, requests):
                    prompts = [prompt for _, prompt in batch]
                    decoding = self._start(adapter, prompts, [requests[i] for i, _ in batch])
                    while decoding.step():
                        pass
                    for row, (i, prompt) in enumerate(batch):
                        answers[i] = self._generation(decoding, row, len(prompt))
            return [answers[i] for i in range(len(requests))]

    def stream(self, request: GenerationRequest) -> Generator[str, None, Generation]:
        """The answer in pieces, and at their end what they make together. Other requests may run between two pieces."""
        with self._lock:
            self._check_adapters([request])
            prompt = self._prompt(request)
            decoding = self._start(request.adapter, [prompt], [request])
        sent = ""
        running = True
        while running:
            with self._lock:
                self._use(request.adapter)
                running = decoding.step()
            text = self.tokenizer.decode(decoding.tokens[0], skip_special_tokens=True)
            # A character of several tokens shows as U+FFFD until its last one is there.
            if len(text) > len(sent) and (not running or not text.endswith("�")):
                yield text[len(sent) :]
                sent = text
        return self._generation(decoding, 0, len(prompt))

    def log_probabilities(self, messages: Sequence[Message], target: str, *, adapter: str | None = None) -> list[float]:
        """Log-probability of each token of `target`, and of the end token after it, given `messages`.

        What proves that an adapter is live: the values are compared with those of the training machine.

        Raises
        ------
        UsageError
            If prompt and answer do not fit the base's context.
        """
        import torch  # noqa: PLC0415

        prompt, answer = encode_prompt(self.tokenizer, messages), encode_target(self.tokenizer, target)
        self._check_length(len(prompt), len(answer))
        with self._lock, torch.inference_mode():
            self._use(adapter)
            logits = self._callable()(input_ids=torch.tensor([prompt + answer]), logits_to_keep=len(answer) + 1).logits[0, :-1]
            chosen = torch.log_softmax(logits.float(), dim=-1).gather(1, torch.tensor(answer)[:, None])
        return [float(value) for value in chosen[:, 0]]

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the PEFT folder available under `name`; the same name again is a no-op.

        Raises
        ------
        DependencyError
            If the folder is not a LoRA adapter for this base; what was loaded before stays loaded.
        """
        from peft import PeftModel  # noqa: PLC0415

        with self._lock:
            if name in self._keys:
                return
            if not (folder / "adapter_model.safetensors").is_file():
                raise UnknownObjectError("adapter folder", str(folder), hint="It needs adapter_config.json and adapter_model.safetensors.")
            key = f"a{self._made}"
            self._made += 1
            # bf16 like the base: in fp32 every layer would cast its input twice.
            options = {"adapter_name": key, "autocast_adapter_dtype": False, "local_files_only": True, "use_safetensors": True}
            try:
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(self._model, folder, **options)
                else:
                    self._peft.load_adapter(folder, **options)
            except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
                raise DependencyError(
                    "engine",
                    f"The adapter `{name}` does not load on the base `{self._base}`: {error}",
                    hint="It must be a PEFT LoRA folder trained on this base.",
                    retryable=False,
                ) from error
            self._peft.eval().requires_grad_(False)
            self._keys[name] = key

    def unload_adapter(self, name: str) -> None:
        """Forget `name`; absent is fine."""
        with self._lock:
            key = self._keys.pop(name, None)
            if key is None:
                return
            if self._keys:
                self._use(next(iter(self._keys)))
                self._peft.delete_adapter(key)
            else:
                self.__dict__["_model"] = self._peft.unload()
                self._peft = None

    def adapters(self) -> list[str]:
        """Names of the loaded adapters, sorted."""
        return sorted(self._keys)

    def _check_adapters(self, requests: Sequence[GenerationRequest]) -> None:
        for adapter in {request.adapter for request in requests} - {None}:
            if adapter not in self._keys:
                raise UnknownObjectError("loaded adapter", str(adapter), hint="Load it first; no other adapter answers in its place.")

    def _use(self, adapter: str | None) -> None:
        self._check_adapters([GenerationRequest((), adapter=adapter)])
        if self._peft is None:
            return
        tuner = self._peft.base_model
        if adapter is None:
            tuner.disable_adapter_layers()
        else:
            tuner.enable_adapter_layers()
            self._peft.set_adapter(self._keys[adapter], inference_mode=True)

    def _callable(self) -> Any:
        return self._model if self._peft is None else self._peft.base_model.model

    def _prompt(self, request: GenerationRequest) -> list[int]:
        prompt = encode_prompt(self.tokenizer, request.messages)
        self._check_length(len(prompt), request.max_tokens)
        return prompt

    def _check_length(self, prompt: int, answer: int) -> None:
        limit = int(getattr(self._model.config, "max_position_embeddings", 0) or 0)
        if limit and prompt + answer > limit:
            raise too_long(prompt, answer, limit=limit, base=self._base)

    def _batches(self, rows: list[tuple[int, list[int]]], requests: Sequence[GenerationRequest]) -> Iterator[list[tuple[int, list[int]]]]:
        batch: list[tuple[int, list[int]]] = []
        for i, prompt in sorted(rows, key=lambda row: len(row[1])):
            length = len(prompt) + requests[i].max_tokens
            if batch and (len(batch) == MAX_BATCH_ROWS or (len(batch) + 1) * length > MAX_BATCH_TOKENS):
                yield batch
                batch = []
            batch.append((i, prompt))
        if batch:
            yield batch

    def _start(self, adapter: str | None, prompts: list[list[int]], requests: list[GenerationRequest]) -> Decoding:
        from affinage.engines.decoding import Decoding  # noqa: PLC0415 - imports torch

        self._use(adapter)

        def complete(row: int, tokens: list[int]) -> bool:
            return requests[row].schema is not None and object_is_over(self.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens))

        return Decoding(self._callable(), prompts, requests, end_tokens=self._end_tokens, pad_token=self._pad_token, complete=complete)

    @cached_property
    def _end_tokens(self) -> frozenset[int]:
        configured = self._model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return frozenset(int(token) for token in [*ends, self.tokenizer.eos_token_id] if token is not None)

    @cached_property
    def _pad_token(self) -> int:
        return int(self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id)

    def _generation(self, decoding: Decoding, row: int, input_tokens: int) -> Generation:
        tokens = decoding.tokens[row]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Generation(text, input_tokens, len(tokens), "stop" if decoding.stopped[row] else "length")


def too_long(prompt: int, answer: int, *, limit: int, base: str) -> UsageError:
    """The error for a prompt and an answer, in tokens, that are together longer than the base's context."""
    return UsageError(
        f"A prompt of {prompt} tokens and an answer of {answer} do not fit the {limit} tokens of `{base}`.",
        hint="Shorten the question, or lower the assistant's max_output_tokens.",
    )


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of the base in `folder`.

    Raises
    ------
    DependencyError
        If there is none that can be read.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> DependencyError:
    return DependencyError(
        "engine",
        f"The base in {folder} cannot be read: {error}",
        hint="It must be a Hugging Face folder with safetensors and a tokenizer.",
        retryable=False,
    )
