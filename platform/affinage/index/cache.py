"""Vectors by embedder and text, in a SQLite file of their own.

Content-addressed and safe to lose: what is missing is embedded again. Vectors are float32, as the embedder gave them, so
that a row repaired from here equals the row that was lost, bit for bit.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affinage.errors import DependencyError

Vector = NDArray[np.float32]
PARAMETERS = 500
# Below SQLite's oldest limit of 999 for one statement.
BUSY_TIMEOUT_SECONDS = 30


class VectorCache:
    """The vector cache of one installation. Threads and processes may share the file.

    Parameters
    ----------
    file
        Created with its folder at first use.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def get(self, fingerprint: str, digests: Iterable[str]) -> dict[str, Vector]:
        """Vectors of those `digests` that are cached for the embedder with `fingerprint`."""
        found: dict[str, Vector] = {}
        with self._lock:
            for part in _parts(digests):
                marks = ",".join("?" * len(part))
                rows = self._run(f"SELECT digest, data FROM vector WHERE fingerprint = ? AND digest IN ({marks})", [fingerprint, *part])  # noqa: S608
                found.update({digest: np.frombuffer(data, dtype=np.float32) for digest, data in rows})
        return found

    def put(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
        """Add vectors by digest; committed on return."""
        # In the order of the table: neighbours fall on one page.
        rows = [
            (fingerprint, digest, np.ascontiguousarray(vector, dtype=np.float32).tobytes()) for digest, vector in sorted(vectors.items())
        ]
        with self._lock, self._converted() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO vector (fingerprint, digest, data) VALUES (?, ?, ?)", rows)

    def remove(self, digests: Iterable[str]) -> int:
        """Forget the vectors of `digests` under every embedder; returns how many there were."""
        removed = 0
        with self._lock, self._converted() as connection, connection:
            for part in _parts(digests):
                removed += connection.execute(f"DELETE FROM vector WHERE digest IN ({','.join('?' * len(part))})", part).rowcount  # noqa: S608
        return removed

    def remove_embedder(self, fingerprint: str) -> None:
        """Forget all vectors of the embedder with `fingerprint`."""
        with self._lock, self._converted() as connection, connection:
            connection.execute("DELETE FROM vector WHERE fingerprint = ?", [fingerprint])

    def digests(self) -> set[str]:
        """Digests of all cached texts."""
        with self._lock:
            return {row[0] for row in self._run("SELECT DISTINCT digest FROM vector", [])}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, statement: str, parameters: Sequence[str]) -> list[tuple[str, bytes]]:
        with self._converted() as connection, closing(connection.execute(statement, parameters)) as cursor:
            return cursor.fetchall()

    def _converted(self) -> _Converted:
        return _Converted(self)

    def open(self) -> sqlite3.Connection:
        """The open connection."""
        if self._connection is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            # NORMAL: a power cut may lose the last commits, never damage the file, and what is lost is embedded again.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vector "
                "(fingerprint TEXT NOT NULL, digest TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (digest, fingerprint)) WITHOUT ROWID"
            )
            self._connection = connection
        return self._connection


class _Converted:
    """Gives the connection and turns SQLite's errors into ours."""

    def __init__(self, cache: VectorCache) -> None:
        self._cache = cache

    def __enter__(self) -> sqlite3.Connection:
        try:
            return self._cache.open()
        except (sqlite3.Error, OSError) as error:
            raise _failed(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise _failed(error) from error


def _failed(error: Exception) -> DependencyError:
    return DependencyError("database", f"The vector cache failed: {error}.", hint="Check space and rights; the file may be deleted.")


def _parts(items: Iterable[str]) -> list[list[str]]:
    every = list(items)
    return [every[i : i + PARAMETERS] for i in range(0, len(every), PARAMETERS)]
