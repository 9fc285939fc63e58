"""Weaviate, a server: the store of a cluster.

One collection for each generation, with a flat index, so that a search under rights is exact. Principals are kept as short
hashes. Objects have ids made from the names of their rows, so every write can be repeated.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from affinage.errors import ConfigurationError, DependencyError
from affinage.index.stores.principals import principal_hash, stored_principals
from affinage.index.stores.protocol import LexicalHit, Rights, Row, VectorHit

PREFIX = "G_"
NAMES_PER_FILTER = 500
PAGE_ROWS = 1_000
ROWS_PER_WRITE = 200
# A message of some 400 kB at 384 dimensions: far below the server's limit of 10 MB.
_IDS = uuid.UUID("5f0b4f5e-6f0e-4d0e-9d5c-1c6c7a1f2b34")


class WeaviateStore:
    """The collections of one server.

    Parameters
    ----------
    url
        `http://HOST:PORT` or `https://HOST:PORT` of the server; connected at first use.
    grpc_port
        Where the same host answers gRPC.
    api_key
        None: the server lets in whoever reaches it.
    """

    fingerprint = "weaviate/1 dot flat"

    def __init__(self, url: str, *, grpc_port: int = 50051, api_key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ConfigurationError(f"`{url}` is no address of Weaviate.", hint="Write http://HOST:PORT.", key="vectors_url")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if port == grpc_port:
            message = f"Weaviate cannot answer HTTP and gRPC on one port, {port}."
            raise ConfigurationError(message, hint="Set `vectors_grpc_port` to the port of its gRPC.", key="vectors_grpc_port")
        self._secure, self._host = parts.scheme == "https", parts.hostname
        self._port = port
        self._grpc_port = grpc_port
        self._api_key = api_key
        self._connection: Any = None
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def ensure(self, generation: str, *, dimensions: int) -> None:  # noqa: ARG002  the first vector fixes them
        """Create the collection."""
        from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances  # noqa: PLC0415

        if self._exists(generation):
            return

        def words(name: str, kind: Any, *, filtered: bool = True) -> Any:
            return Property(name=name, data_type=kind, tokenization=Tokenization.FIELD, index_filterable=filtered, index_searchable=False)

        with _converted(f"create the collection of generation `{generation}`"):
            try:
                self._connect().collections.create(
                    _name(generation),
                    properties=[
                        words("row_id", DataType.TEXT),
                        words("chunk_id", DataType.TEXT, filtered=False),
                        words("doc_key", DataType.TEXT),
                        words("allow", DataType.TEXT_ARRAY),
                        words("tokens", DataType.TEXT_ARRAY),
                    ],
                    vector_config=Configure.Vectors.self_provided(
                        # A cosine would make the server normalise, and change the last bits of unit vectors.
                        vector_index_config=Configure.VectorIndex.flat(distance_metric=VectorDistances.DOT)
                    ),
                )
            except Exception:
                if not self._connect().collections.exists(_name(generation)):
                    raise
            self._known.add(generation)

    def upsert(self, generation: str, rows: Sequence[Row]) -> None:
        """Write in parts; an object with the same id is replaced."""
        if not rows:
            return
        from weaviate.classes.data import DataObject  # noqa: PLC0415

        collection = self._require(generation)
        unique = list({row.row_id: row for row in rows}.values())
        with self._using(generation, "write to"):
            for start in range(0, len(unique), ROWS_PER_WRITE):
                part = unique[start : start + ROWS_PER_WRITE]
                done = collection.data.insert_many(
                    [
                        DataObject(
                            uuid=_id(row.row_id),
                            vector=row.vector.tolist(),
                            properties={
                                "row_id": row.row_id,
                                "chunk_id": row.chunk_id,
                                "doc_key": row.doc_key,
                                "allow": list(stored_principals(row.allow)),
                                "tokens": list(row.tokens),
                            },
                        )
                        for row in part
                    ]
                )
                if done.has_errors:
                    first = next(iter(done.errors.values()))
                    raise OSError(f"{len(done.errors)} of {len(part)} rows were refused, the first one: {first.message}")

    def delete(self, generation: str, row_ids: Collection[str]) -> None:
        """Delete by id."""
        from weaviate.classes.query import Filter  # noqa: PLC0415

        if not row_ids or not self._exists(generation):
            return
        with self._using(generation, "remove rows of"):
            for part in _parts(row_ids):
                self._collection(generation).data.delete_many(where=Filter.by_id().contains_any([_id(name) for name in part]))

    def patch_allow(self, generation: str, doc_keys: Collection[str], allow: Sequence[str]) -> None:
        """Change one property of each object; vectors stay."""
        from weaviate.classes.query import Filter, Sort  # noqa: PLC0415

        if not doc_keys or not self._exists(generation):
            return
        collection, principals = self._collection(generation), list(stored_principals(allow))
        with self._using(generation, "change rights in"):
            for part in _parts(doc_keys):
                of_documents = Filter.by_property("doc_key").contains_any(part)
                condition, more = of_documents, True
                while more:
                    # In the order of names, each page after the last name: an offset would end at the server's limit.
                    found = collection.query.fetch_objects(
                        filters=condition, limit=PAGE_ROWS, sort=Sort.by_property("row_id"), return_properties=["row_id"]
                    ).objects
                    for each in found:
                        collection.data.update(uuid=each.uuid, properties={"allow": principals})
                    more = len(found) == PAGE_ROWS
                    if more:
                        condition = of_documents & Filter.by_property("row_id").greater_than(found[-1].properties["row_id"])

    def vector_search(self, generation: str, vector: NDArray[np.float32], *, rights: Rights, limit: int) -> list[VectorHit]:
        """Flat search over the objects that pass the filter."""
        from weaviate.classes.query import MetadataQuery  # noqa: PLC0415

        if not self._exists(generation):
            return []
        with self._using(generation, "search"):
            found = self._collection(generation).query.near_vector(
                near_vector=vector.tolist(),
                limit=limit,
                filters=_within(rights),
                return_properties=["row_id", "chunk_id"],
                return_metadata=MetadataQuery(distance=True),
            )
        hits = [VectorHit(o.properties["row_id"], o.properties["chunk_id"], -float(o.metadata.distance)) for o in found.objects]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.chunk_id))

    def lexical_candidates(self, generation: str, tokens: Sequence[str], *, rights: Rights, limit: int) -> list[LexicalHit]:
        """One query for all tokens; one for each, the first ones first, when that gives too many."""
        found: dict[str, LexicalHit] = {}
        if not tokens or not self._exists(generation):
            return []
        with self._using(generation, "search"):
            every = self._holding(generation, tokens, rights, limit + 1)
            if len(every) <= limit:
                return every
            for token in tokens:
                for hit in self._holding(generation, [token], rights, limit):
                    found.setdefault(hit.row_id, hit)
                if len(found) >= limit:
                    break
        return list(found.values())[:limit]

    def _holding(self, generation: str, tokens: Sequence[str], rights: Rights, limit: int) -> list[LexicalHit]:
        from weaviate.classes.query import Filter  # noqa: PLC0415

        found = self._collection(generation).query.fetch_objects(
            filters=Filter.by_property("tokens").contains_any(list(tokens)) & _within(rights),
            limit=limit,
            return_properties=["row_id", "chunk_id", "tokens"],
        )
        return [LexicalHit(o.properties["row_id"], o.properties["chunk_id"], tuple(o.properties["tokens"] or ())) for o in found.objects]

    def scan(self, generation: str) -> Iterator[Row]:
        """All objects, page by page."""
        if not self._exists(generation):
            return
        with self._using(generation, "read"):
            for each in self._collection(generation).iterator(include_vector=True):
                held = each.properties
                vector = np.asarray(each.vector["default"], dtype=np.float32)
                tokens, allow = tuple(held["tokens"] or ()), tuple(sorted(held["allow"] or ()))
                yield Row(held["row_id"], held["chunk_id"], held["doc_key"], allow, tokens, vector)

    def stored_principals(self, allow: Iterable[str]) -> tuple[str, ...]:
        """Their hashes."""
        return stored_principals(allow)

    def count(self, generation: str) -> int:
        """Count the objects."""
        if not self._exists(generation):
            return 0
        with self._using(generation, "count"):
            return int(self._collection(generation).aggregate.over_all(total_count=True).total_count or 0)

    def generations(self) -> list[str]:
        """Names of the collections."""
        with _converted("list the collections"):
            names = self._connect().collections.list_all(simple=True)
        return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))

    def drop(self, generation: str) -> None:
        """Delete the collection."""
        self._known.discard(generation)
        with _converted(f"drop generation `{generation}`"):
            self._connect().collections.delete(_name(generation))

    def maintain(self, generation: str) -> None:
        """The server compacts by itself."""

    def close(self) -> None:
        """Close the connection; it is opened again at the next use."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connect(self) -> Any:
        with self._lock:
            if self._connection is None:
                import weaviate  # noqa: PLC0415 - a second
                from weaviate.classes.init import AdditionalConfig, Auth, Timeout  # noqa: PLC0415

                with _converted("connect"):
                    self._connection = weaviate.connect_to_custom(
                        http_host=self._host, http_port=self._port, http_secure=self._secure,
                        grpc_host=self._host, grpc_port=self._grpc_port, grpc_secure=self._secure,
                        auth_credentials=Auth.api_key(self._api_key) if self._api_key else None,
                        additional_config=AdditionalConfig(timeout=Timeout(init=10, query=30, insert=120)),
                        # The checks ask a package index for a newer client.
                        skip_init_checks=True,
                    )  # fmt: skip
            return self._connection

    def _exists(self, generation: str) -> bool:
        if generation not in self._known:
            with _converted(f"open generation `{generation}`"):
                if not self._connect().collections.exists(_name(generation)):
                    return False
            self._known.add(generation)
        return True

    def _collection(self, generation: str) -> Any:
        return self._connect().collections.use(_name(generation))

    @contextmanager
    def _using(self, generation: str, doing: str) -> Iterator[None]:
        try:
            with _converted(f"{doing} generation `{generation}`"):
                yield
        except DependencyError:
            # Another process may have dropped or replaced it: the next call looks again.
            self._known.discard(generation)
            raise

    def _require(self, generation: str) -> Any:
        if not self._exists(generation):
            raise DependencyError("weaviate", f"Generation `{generation}` has no table.", hint="Run `affinage index verify --repair`.")
        return self._collection(generation)


def _name(generation: str) -> str:
    if not generation.replace("_", "").isalnum():
        raise ValueError(f"not a generation id: {generation!r}")
    return PREFIX + generation


def _id(row_id: str) -> uuid.UUID:
    return uuid.uuid5(_IDS, row_id)


def _within(rights: Rights) -> Any:
    from weaviate.classes.query import Filter  # noqa: PLC0415

    condition = Filter.by_property("allow").contains_any(sorted(principal_hash(p) for p in rights.principals) or [""])
    if rights.documents:
        condition |= Filter.by_property("doc_key").contains_any(sorted(rights.documents))
    return condition


def _parts(names: Collection[str]) -> list[list[str]]:
    every = sorted(names)
    return [every[i : i + NAMES_PER_FILTER] for i in range(0, len(every), NAMES_PER_FILTER)]


@contextmanager
def _converted(doing: str) -> Iterator[None]:
    from weaviate.exceptions import WeaviateBaseError  # noqa: PLC0415

    try:
        yield
    except (WeaviateBaseError, OSError) as error:
        raise DependencyError(
            "weaviate", f"Weaviate could not {doing}: {error}", hint="Is the server up, and is `vectors_url` its address?"
        ) from error
