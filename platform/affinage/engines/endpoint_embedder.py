"""An embedder behind any OpenAI-compatible endpoint: vectors over HTTP, checked before anybody trusts them.

Called by wiring for embedders that are URLs. Goes only to declared hosts, follows no redirect, waits when the server is busy,
and never logs or quotes a text. What runs behind the address is known by name only, so an index compares canaries.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from affinage.engines.batches import batches, pause_seconds
from affinage.engines.openai_http import CONNECT_SECONDS, READ_SECONDS, OpenAIServer, UnavailableError, endpoint_address
from affinage.engines.protocols import RefusedTextsError
from affinage.errors import ConfigurationError, DependencyError

BATCH_TEXTS = 64
BATCH_TOKENS = 65_536
"""Of one request, counted as `count_tokens` does: a chunk has at most some 1,000 bytes, so 64 of them fit."""
DEFAULT_MAX_TOKENS = 512
"""What most embedding models take; a declaration may say more."""
LONGEST_WAIT_SECONDS = 60.0
"""Between the tries of one request, all together: then the run fails, and a later one goes on."""
_SPECIAL_TOKENS = 8
# More than any tokenizer puts around a text.
_PROBE = "affinage"
# The text that tells the length of a vector; a server that took it once must take it again.
_HTTP_BUSY, _HTTP_SERVER_ERROR = 429, 500
_HTTP_AT_FAULT = {400, 413, 422}
# The server says that what it was sent is wrong: too many texts, too long, or one of them.
_RECIPE = "openai endpoint 1; l2"


class EndpointEmbedder:
    """Embeds with one model of one server. Safe to share between threads.

    Parameters
    ----------
    url
        Its address up to `/v1`, with the model's name as fragment and what else must be known of it:
        `https://host/v1#model?max_tokens=8192&revision=2`. Raise `revision` when another model comes under the same name.
    egress_hosts
        Hosts that may be reached.
    rng
        For the pauses between tries.
    api_key
        Sent as bearer token when given.
    sleep
        Waits for so many seconds.

    Raises
    ------
    ConfigurationError
        If the URL is not of that form, or its host is not one of `egress_hosts`.
    """

    def __init__(
        self,
        url: str,
        *,
        egress_hosts: Sequence[str],
        rng: np.random.Generator,
        api_key: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        root, fragment = endpoint_address(url, egress_hosts=egress_hosts)
        self._model, self._max_tokens, self._revision = _parsed(url, fragment)
        self._rng = rng
        self._sleep = sleep
        # Lowered when the server takes fewer.
        self._most = BATCH_TEXTS
        self._server = OpenAIServer(
            root,
            parallel=1,
            connect_seconds=connect_seconds,
            read_seconds=read_seconds,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Digest over address, model name, declared revision and the length of a vector. Not over `max_tokens`: it changes no vector."""
        facts = [_RECIPE, self._server.root, self._model, self._revision, self.dimensions]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def weights_in_fingerprint(self) -> bool:
        """False: a name is all that is known of them."""
        return False

    @property
    def dimensions(self) -> int:
        """Length of a vector, learned from a first one."""
        return self._learned[0]

    @property
    def max_tokens(self) -> int:
        """Longest text it embeds whole, as declared."""
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        """No fewer than the tokens of `text`: its bytes, since the protocol has no way to ask."""
        return len(text.encode()) + _SPECIAL_TOKENS

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n_texts, dimensions).

        Raises
        ------
        RefusedTextsError
            If the server refuses some texts, each also when it is alone.
        DependencyError
            If it cannot be reached, stays busy, or answers with vectors of another number, length or kind.
        """
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        refused: list[int] = []
        for rows in batches([self.count_tokens(text) for text in texts], budget=BATCH_TOKENS, most=self._most):
            refused += self._fill(vectors, texts, rows)
        if refused:
            message = f"`{self._server.root}` refused {len(refused)} of {len(texts)} texts."
            raise RefusedTextsError(message, positions=sorted(refused), vectors=vectors)
        return vectors

    @cached_property
    def _learned(self) -> tuple[int, str]:
        """Length of a vector, and the encoding to ask for: a server may know floats only."""
        try:
            encoding = "base64"
            vectors = self._ask([_PROBE], encoding=encoding)
        except DependencyError as error:
            if not _at_fault(error):
                raise
            encoding = "float"
            vectors = self._ask([_PROBE], encoding=encoding)
        return vectors.shape[1], encoding

    def _fill(self, vectors: NDArray[np.float32], texts: Sequence[str], rows: list[int]) -> list[int]:
        """Write the vectors of `rows`, in halves when the server refuses them together; returns the rows that it refuses alone."""
        too_many = len(rows) > self._most
        if not too_many:
            try:
                vectors[rows] = self._checked([texts[row] for row in rows])
            except DependencyError as error:
                if not _at_fault(error):
                    raise
                if len(rows) == 1:
                    self._blame_text(error)
                    return rows
            else:
                return []
        middle = (len(rows) + 1) // 2
        refused = self._fill(vectors, texts, rows[:middle]) + self._fill(vectors, texts, rows[middle:])
        if not refused and not too_many:
            # No text was at fault, so there were too many of them: no need to be told again.
            self._most = min(self._most, middle)
        return refused

    def _blame_text(self, error: DependencyError) -> None:
        """Return if the fault is the text's; a server that refuses the probe too would refuse all, and raises."""
        try:
            self._checked([_PROBE])
        except DependencyError as again:
            if _at_fault(again):
                raise self._wrong("a refusal to texts that it took before", hint="Check the model's name and its server.") from error
            raise

    def _checked(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = self._ask(texts, encoding=self._learned[1])
        if vectors.shape[1] != self.dimensions:
            raise self._wrong(f"vectors of {vectors.shape[1]} numbers, and {self.dimensions} before")
        return vectors

    def _ask(self, texts: list[str], *, encoding: str) -> NDArray[np.float32]:
        body = {"model": self._model, "input": texts, "encoding_format": encoding}
        attempt, waited = 0, 0.0
        while True:
            try:
                return self._vectors(self._server.json("POST", "/embeddings", body), len(texts))
            except DependencyError as error:
                pause = pause_seconds(attempt, asked=_retry_after(error), jitter=float(self._rng.random()))
                if not _busy(error) or waited + pause > LONGEST_WAIT_SECONDS:
                    raise
            self._sleep(pause)
            attempt, waited = attempt + 1, waited + pause

    def _vectors(self, content: Any, expected: int) -> NDArray[np.float32]:
        """The reply's vectors in the order of their `index`, of length 1: shape (expected, dimensions)."""
        try:
            entries = sorted((int(entry["index"]), entry["embedding"]) for entry in content["data"])
            rows = [_decoded(embedding) for _, embedding in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong("something that is not of the protocol") from error
        if [index for index, _ in entries] != list(range(expected)):
            raise self._wrong(f"{len(rows)} vectors for {expected} texts, or not one for each")
        if any(row.ndim != 1 or row.size == 0 or row.shape != rows[0].shape for row in rows):
            raise self._wrong("vectors that are not of one length")
        vectors = np.stack(rows)
        with np.errstate(over="ignore"):
            lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
        # NaN fails both comparisons, as it must.
        if not np.all((lengths > 0) & (lengths < math.inf)):
            raise self._wrong("a vector that is zero or not of numbers")
        return (vectors / lengths).astype(np.float32)

    def _wrong(self, what: str, *, hint: str = "Check the model's server.") -> DependencyError:
        return DependencyError("embedder", f"The embedder behind `{self._server.root}` gave {what}.", hint=hint, retryable=False)


def _parsed(url: str, fragment: str) -> tuple[str, int, str]:
    """Model name, longest text in tokens, and declared revision."""
    model, mark, options = fragment.partition("?")
    try:
        given = dict(parse_qsl(options, strict_parsing=True)) if mark else {}
        max_tokens, revision = int(given.pop("max_tokens", DEFAULT_MAX_TOKENS)), given.pop("revision", "")
    except ValueError:
        given, max_tokens, revision = {"": ""}, 0, ""
    # Below that no heading and no sentence fits.
    if not model or given or max_tokens < 64:
        hint = "Write http(s)://host[:port]/v1#model?max_tokens=8192&revision=2; max_tokens (64 or more) and revision may be left out."
        raise ConfigurationError(f"`{url}` does not name an embedding model.", hint=hint)
    return model, max_tokens, revision


def _decoded(embedding: Any) -> NDArray[np.float64]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float64)
    return np.asarray(embedding, dtype=np.float64)


def _at_fault(error: DependencyError) -> bool:
    return error.fields.get("status") in _HTTP_AT_FAULT


def _busy(error: DependencyError) -> bool:
    # A server that is late is at work: asking again would double the work.
    status = error.fields.get("status", 0)
    return isinstance(error, UnavailableError) or (isinstance(status, int) and (status == _HTTP_BUSY or status >= _HTTP_SERVER_ERROR))


def _retry_after(error: DependencyError) -> float | None:
    """Seconds that the server asked for. A date is not understood: it would need the server's clock."""
    try:
        seconds = float(str(error.fields["retry_after"]))
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
