"""The embedder that runs as a service: vectors over HTTP, checked before anybody trusts them.

Called by wiring when the settings name the service. Needs neither weights nor onnxruntime. Each response names the
fingerprint of what made its vectors: those of another model are refused, so an index can never mix two.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.engines.pods import Pod, Pods
from affinage.errors import DependencyError

BATCH_TEXTS = 64
"""Texts of one request; the service takes 256, and a chunk in UTF-8 is some kilobytes."""
UNIT_TOLERANCE = 1e-3
_COUNTED_TEXTS = 4096
# An index asks for the tokens of the same sentences again while it packs them.


class RemoteEmbedder:
    """Embeds with the service behind `pods`.

    Parameters
    ----------
    adapter
        Name of an adapter; None: the bare base.
    files
        Where the adapter's PEFT files are; called when a pod lacks it, and they are sent there.
    """

    def __init__(self, pods: Pods, *, adapter: str | None = None, files: Callable[[], Path] | None = None) -> None:
        if (adapter is None) != (files is None):
            raise ValueError("an adapter needs its files, and files need a name")
        self._pods = pods
        self._adapter = adapter
        self._files = files
        self._count = lru_cache(maxsize=_COUNTED_TEXTS)(self._count_remotely)

    @property
    def fingerprint(self) -> str:
        """Digest over weights, adapter, pooling, normalisation and token limit, as the service tells it."""
        return str(self._facts["digest"])

    @property
    def weights_in_fingerprint(self) -> bool:
        """True: our service digests the weights it loads, and each of its answers names the digest, which is compared."""
        return True

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._facts["dimensions"])

    @property
    def max_tokens(self) -> int:
        """Longest text it embeds whole."""
        return int(self._facts["max_tokens"])

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` including the special ones, not truncated."""
        return self._count(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n_texts, dimensions).

        Raises
        ------
        DependencyError
            If the service cannot be reached, or answers with vectors of another model, number, length or kind.
        """
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), BATCH_TEXTS):
            batch = list(texts[start : start + BATCH_TEXTS])
            vectors[start : start + len(batch)] = self._embed(batch)
        return vectors

    def send_adapter(self, *, fresh: bool = False) -> bool:
        """Send the adapter to every pod that lacks it, as seen just now when `fresh`; returns whether one did."""
        if self._adapter is None or self._files is None:
            return False
        if fresh:
            self._pods.ready(fresh=True)
        if self._adapter in self._pods.adapters():
            return False
        self._pods.send_adapter(self._adapter, self._files())
        return True

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """Of the first look: what the service says later is compared with it."""
        self.send_adapter()
        facts = self._pods.facts(self._adapter)
        if not {"digest", "dimensions", "max_tokens"} <= facts.keys():
            raise DependencyError("embedder", f"`{self._pods.url}` is no embedder.", hint="Check AFFINAGE_EMBEDDER_URL.", retryable=False)
        return facts

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        content = self._ask("/embeddings", {"input": texts, "encoding_format": "base64"})
        try:
            entries = sorted(content["data"], key=lambda entry: int(entry["index"]))
            rows = [np.frombuffer(base64.b64decode(entry["embedding"], validate=True), dtype="<f4") for entry in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong("something that is not of the protocol") from error
        if len(rows) != len(texts) or any(row.shape != (self.dimensions,) for row in rows):
            raise self._wrong(f"{len(rows)} vectors of some other shape than {len(texts)} times {self.dimensions}")
        vectors = np.stack(rows).astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        # NaN fails the comparison, as it must.
        if not np.all(np.abs(lengths - 1.0) <= UNIT_TOLERANCE):
            raise self._wrong("vectors that are not of length 1")
        return vectors

    def _count_remotely(self, text: str) -> int:
        content = self._ask("/tokens", {"input": text})
        try:
            return int(content["tokens"][0])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self._wrong("something that is not of the protocol") from error

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        expected = self.fingerprint
        self.send_adapter()  # a pod may have been started again

        def call(pod: Pod) -> Any:
            return pod.server.json("POST", path, {"model": pod.model(self._adapter), **body}, adapter=self._adapter)

        content = self._pods.ask(self._adapter, call)
        if not isinstance(content.get("affinage"), dict) or content["affinage"].get("digest") != expected:
            raise self._wrong("vectors of another model than before", hint="Restart this process when the model was changed on purpose.")
        return content

    def _wrong(self, what: str, *, hint: str = "Check the service and its weights.") -> DependencyError:
        return DependencyError("embedder", f"The embedder behind `{self._pods.url}` gave {what}.", hint=hint, retryable=False)
