"""Every vector store keeps the same promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from affinage.errors import DependencyError
from affinage.index.stores.exact import ExactStore
from affinage.index.stores.lancedb import LanceStore
from affinage.index.stores.protocol import Rights, Row, VectorStore
from affinage.index.stores.weaviate import WeaviateStore

DIMENSIONS = 16
EVERYONE = Rights(frozenset({"everyone"}))


EMBEDDED = pytest.param("lancedb", marks=pytest.mark.integration)
CLUSTER = pytest.param("weaviate", marks=pytest.mark.cluster)


@pytest.fixture(params=["exact", EMBEDDED, CLUSTER])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    if request.param == "exact":
        opened: VectorStore = ExactStore()
        opened.ensure("g1", dimensions=DIMENSIONS)
        yield opened
    else:
        yield from (opened for opened, _ in clients(request.param, request, tmp_path))


@pytest.fixture(params=[EMBEDDED, CLUSTER])
def two_clients(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[VectorStore, VectorStore]]:
    yield from clients(request.param, request, tmp_path)


def clients(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[VectorStore, VectorStore]]:
    """Two clients of one store that holds the empty generation g1."""
    if kind == "lancedb":
        lance = LanceStore(tmp_path / "vectors"), LanceStore(tmp_path / "vectors")
        lance[0].ensure("g1", dimensions=DIMENSIONS)
        yield lance
        return
    url, grpc_port = request.getfixturevalue("weaviate")
    servers = WeaviateStore(url, grpc_port=grpc_port), WeaviateStore(url, grpc_port=grpc_port)
    for generation in servers[0].generations():
        servers[0].drop(generation)
    servers[0].ensure("g1", dimensions=DIMENSIONS)
    yield servers
    for server in servers:
        server.close()


def vector(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def row(n: int, *, doc: str = "d1", allow: tuple[str, ...] = ("everyone",), tokens: tuple[str, ...] = ("leave",)) -> Row:
    return Row(f"{n:032x}", f"c{n}", doc, allow, tokens, vector(n))


def test_rows_are_found_at_once_and_nearest_first(store: VectorStore) -> None:
    rows = [row(n) for n in range(40)]
    store.upsert("g1", rows)
    query = vector(1000)
    expected = sorted(rows, key=lambda r: -float(r.vector @ query))
    hits = store.vector_search("g1", query, rights=EVERYONE, limit=10)
    assert [hit.row_id for hit in hits] == [r.row_id for r in expected[:10]]
    assert [hit.similarity for hit in hits] == pytest.approx([float(r.vector @ query) for r in expected[:10]], abs=1e-5)
    assert len(store.vector_search("g1", query, rights=EVERYONE, limit=100)) == 40


def test_writing_the_same_rows_again_changes_nothing(store: VectorStore) -> None:
    store.upsert("g1", [row(1), row(2)])
    store.upsert("g1", [row(2), row(3), row(3)])
    assert sorted(r.row_id for r in store.scan("g1")) == [f"{n:032x}" for n in (1, 2, 3)]
    assert store.count("g1") == 3


def test_scan_gives_back_what_was_written(store: VectorStore) -> None:
    written = row(7, doc="d9", allow=("group:hr", "user:l'été"), tokens=("a", "b", "a"))
    store.upsert("g1", [written])
    (read,) = store.scan("g1")
    assert (read.row_id, read.chunk_id, read.doc_key, read.tokens) == (written.row_id, written.chunk_id, written.doc_key, written.tokens)
    assert read.allow == store.stored_principals(written.allow)
    assert read.vector.tobytes() == written.vector.tobytes()


def test_deleted_rows_are_gone_and_absent_ones_are_fine(store: VectorStore) -> None:
    store.upsert("g1", [row(n) for n in range(5)])
    store.delete("g1", [f"{n:032x}" for n in (1, 3, 99)])
    assert {r.chunk_id for r in store.scan("g1")} == {"c0", "c2", "c4"}
    store.delete("g1", [])
    store.delete("nothing", ["x"])


def test_only_rows_within_the_rights_are_found(store: VectorStore) -> None:
    store.upsert(
        "g1",
        [row(1, allow=("everyone",)), row(2, allow=("group:hr", "user:dana")), row(3, allow=()), row(4, doc="d4", allow=("group:law",))],
    )

    def found(*principals: str, documents: tuple[str, ...] = ()) -> set[str]:
        rights = Rights(frozenset(principals), frozenset(documents))
        near = {hit.chunk_id for hit in store.vector_search("g1", vector(0), rights=rights, limit=10)}
        held = {hit.chunk_id for hit in store.lexical_candidates("g1", ["leave"], rights=rights, limit=10)}
        assert near == held
        return near

    assert found("everyone", "user:alice") == {"c1"}
    assert found("everyone", "group:hr") == {"c1", "c2"}
    assert found("user:dana") == {"c2"}
    assert found() == set()
    assert found("everyone", documents=("d4",)) == {"c1", "c4"}


@pytest.mark.parametrize("principal", ["user:o'brien", "user:') OR ('1'='1", "user:%", "user:\\", "group:é\u0000", "nobody"])
def test_names_from_outside_never_become_part_of_a_query(store: VectorStore, principal: str) -> None:
    store.upsert("g1", [row(1, allow=()), row(2, allow=(principal,)), row(3, allow=("group:hr",))])
    hits = store.vector_search("g1", vector(0), rights=Rights(frozenset({principal})), limit=10)
    assert [hit.chunk_id for hit in hits] == ["c2"]


def test_patching_rights_touches_nothing_else(store: VectorStore) -> None:
    store.upsert("g1", [row(1, doc="d1"), row(2, doc="d1"), row(3, doc="d2")])
    store.patch_allow("g1", ["d1"], ["group:hr", "user:dana"])
    rows = {r.chunk_id: r for r in store.scan("g1")}
    assert rows["c1"].allow == rows["c2"].allow == store.stored_principals(["user:dana", "group:hr"])
    assert rows["c3"].allow == store.stored_principals(["everyone"])
    assert [r.vector.tobytes() for r in rows.values()] == [vector(int(name[1:])).tobytes() for name in rows]
    store.patch_allow("g1", ["d2"], [])
    assert store.vector_search("g1", vector(0), rights=EVERYONE, limit=10) == []
    assert {r.chunk_id: r for r in store.scan("g1")}["c3"].allow == store.stored_principals([])


def test_lexical_candidates_hold_a_word_and_prefer_the_first(store: VectorStore) -> None:
    store.upsert("g1", [row(n, tokens=("common",)) for n in range(20)] + [row(n, tokens=("common", "rare")) for n in range(20, 23)])
    store.upsert("g1", [row(50, tokens=("other",))])
    every = store.lexical_candidates("g1", ["rare", "common"], rights=EVERYONE, limit=100)
    assert {hit.chunk_id for hit in every} == {f"c{n}" for n in range(23)}
    few = store.lexical_candidates("g1", ["rare", "common"], rights=EVERYONE, limit=5)
    assert len(few) == 5
    assert {"c20", "c21", "c22"} <= {hit.chunk_id for hit in few}
    assert store.lexical_candidates("g1", [], rights=EVERYONE, limit=5) == []


def test_generations_are_apart_and_one_that_is_absent_is_empty(store: VectorStore) -> None:
    store.ensure("g2", dimensions=DIMENSIONS * 2)
    store.ensure("g2", dimensions=DIMENSIONS * 2)
    store.upsert("g1", [row(1)])
    assert store.count("g2") == 0
    assert store.generations() == ["g1", "g2"]
    assert store.vector_search("g3", vector(0), rights=EVERYONE, limit=3) == []
    assert store.lexical_candidates("g3", ["leave"], rights=EVERYONE, limit=3) == []
    assert list(store.scan("g3")) == []
    store.drop("g1")
    store.drop("g1")
    assert store.generations() == ["g2"]


def test_maintenance_keeps_every_row(store: VectorStore) -> None:
    for n in range(25):
        store.upsert("g1", [row(n)])
    store.delete("g1", [f"{3:032x}"])
    store.maintain("g1")
    assert store.count("g1") == 24
    assert len(store.vector_search("g1", vector(0), rights=EVERYONE, limit=100)) == 24


def test_another_clients_writes_are_seen_at_the_next_query(two_clients: tuple[VectorStore, VectorStore]) -> None:
    writer, reader = two_clients
    writer.upsert("g1", [row(1)])
    assert reader.count("g1") == 1
    writer.upsert("g1", [row(2)])
    assert len(reader.vector_search("g1", vector(0), rights=EVERYONE, limit=5)) == 2
    writer.patch_allow("g1", ["d1"], ["group:hr"])
    writer.delete("g1", [row(1).row_id])
    assert [hit.chunk_id for hit in reader.vector_search("g1", vector(0), rights=Rights(frozenset({"group:hr"})), limit=5)] == ["c2"]
    assert reader.vector_search("g1", vector(0), rights=EVERYONE, limit=5) == []


def test_a_generation_that_another_client_dropped_and_wrote_again_is_found(two_clients: tuple[VectorStore, VectorStore]) -> None:
    writer, reader = two_clients
    writer.upsert("g1", [row(1)])
    assert reader.count("g1") == 1
    writer.drop("g1")
    with suppress(DependencyError):  # the one call that finds out may fail
        assert reader.vector_search("g1", vector(0), rights=EVERYONE, limit=5) == []
    assert reader.vector_search("g1", vector(0), rights=EVERYONE, limit=5) == []
    writer.ensure("g1", dimensions=DIMENSIONS)
    writer.upsert("g1", [row(2)])
    assert [hit.chunk_id for hit in reader.vector_search("g1", vector(0), rights=EVERYONE, limit=5)] == ["c2"]


def test_two_writers_of_the_same_new_row_keep_one(two_clients: tuple[VectorStore, VectorStore]) -> None:
    threads = [threading.Thread(target=client.upsert, args=("g1", [row(n) for n in range(50)])) for client in two_clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert two_clients[0].count("g1") == 50


def test_a_long_document_and_a_user_of_a_thousand_groups(store: VectorStore) -> None:
    store.upsert("g1", [row(n, doc="long") for n in range(1_201)] + [row(5_000, doc="other", allow=("group:999",))])
    store.patch_allow("g1", ["long"], ["group:500"])
    of_groups = Rights(frozenset(f"group:{n}" for n in range(1_000)))
    assert store.vector_search("g1", vector(0), rights=EVERYONE, limit=10) == []
    assert len(store.vector_search("g1", vector(0), rights=of_groups, limit=2_000)) == 1_202
    assert len(store.lexical_candidates("g1", ["leave"], rights=of_groups, limit=1_000)) == 1_000
    store.delete("g1", [row(n).row_id for n in range(1_201)])
    assert [found.doc_key for found in store.scan("g1")] == ["other"]
