"""Whether an embedder still gives the vectors that a generation was built with.

An endpoint is known by a name, and another model may come under it. So three fixed texts are embedded when a generation is
made, their vectors are stored with it, and a run embeds them again before the first text that it adds. An embedder whose
fingerprint is computed from the weights in use needs none: other weights are another fingerprint, which is compared each time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select

from affinage.database.tables.index import canary as table
from affinage.engines.protocols import Embedder, RefusedTextsError
from affinage.errors import ConflictError
from affinage.index.cache import Vector

TEXTS = (
    "La demande est déposée en mairie ; une réponse est donnée dans les deux mois.",
    "The application is free of charge, unless article 12 (b) says otherwise.",
    "IBAN, 3 × 4 = 12, naïve façade, Ω, 東京",
)
"""Two languages and what a tokenizer may treat in its own way. A generation keeps the texts it was made with."""
MIN_COSINE = 0.9999
# The same weights on another processor, or in another batch, stay above it; bf16 in place of fp32 does not.


class ChangedEmbedderError(ConflictError):
    """An embedder gives other vectors than those that a generation holds: they must not be mixed."""


def take(embedder: Embedder) -> dict[str, Vector]:
    """The canaries' vectors by text; empty for an embedder that needs none."""
    if embedder.weights_in_fingerprint:
        return {}
    return dict(zip(TEXTS, np.asarray(embedder.embed(TEXTS), dtype=np.float32), strict=True))


def stored(connection: Connection, generation_ids: Sequence[str]) -> dict[str, Vector]:
    """Canaries of the first of these generations that has any."""
    for generation_id in generation_ids:
        rows = connection.execute(select(table.c.text, table.c.vector).where(table.c.generation_id == generation_id)).all()
        if rows:
            return {row.text: np.frombuffer(row.vector, dtype="<f4") for row in rows}
    return {}


def store(connection: Connection, generation_id: str, vectors: Mapping[str, Vector]) -> None:
    """Write the canaries of a generation."""
    rows = [{"generation_id": generation_id, "text": text, "vector": vector.astype("<f4").tobytes()} for text, vector in vectors.items()]
    if rows:
        connection.execute(insert(table), rows)


def agree(one: Mapping[str, Vector], other: Mapping[str, Vector]) -> bool:
    """Whether the vectors of the texts that both have are the same, up to the last bits of the arithmetic."""
    return all(
        one[text].shape == other[text].shape and float(one[text].astype(np.float64) @ other[text].astype(np.float64)) >= MIN_COSINE
        for text in one.keys() & other.keys()
    )


def changed(*, embedder: object, source: str) -> ChangedEmbedderError:
    """The error for an embedder that no longer gives a source's vectors."""
    return ChangedEmbedderError(
        f"The embedder `{embedder}` of source `{source}` is not the one its index was built with: it gives other vectors.",
        hint="Bring the former model back, or declare the new one under its own name or revision (`#model?revision=2`) and build "
        f"a new generation: `affinage index rebuild {source}`.",
    )


class GuardedEmbedder:
    """An embedder that looks at the canaries before the first text it embeds; otherwise the one it wraps.

    Parameters
    ----------
    expected
        Vectors of the canaries, of length 1, by text; not empty.
    error
        Raised by `embed` when they are not what the embedder gives.
    """

    def __init__(self, embedder: Embedder, *, expected: Mapping[str, Vector], error: ConflictError) -> None:
        self._embedder = embedder
        self._expected = expected
        self._error = error
        self._lock = threading.Lock()
        self._known = False

    @property
    def fingerprint(self) -> str:
        """The wrapped embedder's."""
        return self._embedder.fingerprint

    @property
    def weights_in_fingerprint(self) -> bool:
        """The wrapped embedder's."""
        return self._embedder.weights_in_fingerprint

    @property
    def dimensions(self) -> int:
        """The wrapped embedder's."""
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        """The wrapped embedder's."""
        return self._embedder.max_tokens

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of `texts`; nothing is embedded when the canaries differ."""
        with self._lock:
            if not self._known and len(texts):
                names = list(self._expected)
                try:
                    given = dict(zip(names, np.asarray(self._embedder.embed(names), dtype=np.float32), strict=True))
                except RefusedTextsError as error:
                    # Its positions are those of canaries: the caller would take them for its own texts.
                    raise self._error from error
                if not agree(given, self._expected):
                    raise self._error
                self._known = True
        return self._embedder.embed(texts)
