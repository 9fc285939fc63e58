"""What only a query has: columns, rights in them, versions, digests, time limits, and a transaction that cannot write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from affinage.documents.sources import Places, Source, allow_of
from affinage.documents.sources.sql import Connections, SqlSource
from affinage.errors import ConfigurationError, DependencyError, DocumentError
from tests.support.places import PostgresPlace, SqlitePlace, SqlPlace


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlPlace]:
    made = SqlitePlace(tmp_path) if request.param == "sqlite" else PostgresPlace(request.getfixturevalue("postgres"))
    yield made
    made.close()


def add(place: SqlPlace, key: str, body: str | None = "text", **more: Any) -> None:
    values = {"id": key, "body": body, **more}
    place.run(f"INSERT INTO page ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", *values.values())


def columns(**more: str) -> dict[str, str]:
    return {"key": "id", "text": "body", **more}


def paths(source: Source) -> list[str]:
    return [listed.path for listed in source.listing()]


def signature(source: Source) -> dict[str, Any]:
    (listed,) = source.listing()
    return dict(listed.signature.as_json())


def rights(place: SqlPlace, **more: Any) -> dict[str, tuple[str, ...]]:
    spec = place.spec(columns=columns(rights="readers"), **more)
    source = place.open(columns=columns(rights="readers"), **more)
    allow = allow_of(spec, source)
    return {listed.path: allow(listed) for listed in source.listing()}


def test_the_order_is_that_of_code_points_of_the_whole_path(place: SqlPlace) -> None:
    # Neither the column's collation (which ignores case on SQLite) nor that of the key alone: `a` < `a-b`, but `a-b.md` < `a.md`.
    keys = ["a", "a-b", "B", "a/x", "é", "z", "a.b"]
    for key in keys:
        add(place, key)
    assert paths(place.open()) == sorted(f"{key}.md" for key in keys)


def test_numbers_are_keys_too(place: SqlPlace) -> None:
    for number in (9, 10, 100):
        add(place, str(number), f"text {number}")
    source = place.open(query="SELECT CAST(id AS INTEGER) AS id, body FROM page")
    assert paths(source) == ["10.md", "100.md", "9.md"]
    assert source.read("100.md") == b"text 100"
    with pytest.raises(DocumentError, match="gone"):
        source.read("abc.md")


@pytest.mark.parametrize(("suffix", "expected"), [(".md", b"# Leave & more\n\ntext"), (".html", b"<h1>Leave &amp; more</h1>\ntext")])
def test_a_title_stands_above_its_text_as_the_format_writes_it(place: SqlPlace, suffix: str, expected: bytes) -> None:
    add(place, "a", title="Leave\n & more")
    assert place.open(columns=columns(title="title"), suffix=suffix).read(f"a{suffix}") == expected


def test_a_blob_is_read_byte_by_byte_and_its_row_says_of_which_format_it_is(place: SqlPlace) -> None:
    data = bytes(range(256))
    add(place, "a", file=data, suffix=".pdf")
    add(place, "b", file=data)
    source = place.open(columns={"key": "id", "blob": "file", "suffix": "suffix"}, suffix=".docx")
    assert paths(source) == ["a.pdf", "b.docx"]
    assert source.read("a.pdf") == source.read("b.docx") == data


def test_without_a_version_a_digest_of_title_and_content_tells_a_change(place: SqlPlace) -> None:
    add(place, "a", "text", title="one")
    source = place.open(columns=columns(title="title"))
    first = signature(source)
    place.run("UPDATE page SET title = 'two'")
    second = signature(source)
    place.run("UPDATE page SET body = 'TEXT'")
    third = signature(source)
    place.run("UPDATE page SET body = 'text', title = 'one'")
    assert len({first["digest"], second["digest"], third["digest"]}) == 3
    assert signature(source) == first
    place.run("UPDATE page SET body = NULL")
    assert source.read("a.md") == b"# one\n\n"


@pytest.mark.parametrize("column", ["body", "file"])
def test_a_listing_does_not_carry_the_content(place: SqlPlace, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add(place, "a", "text", file=b"bytes")
    content = {"text": "body"} if column == "body" else {"blob": "file"}
    source = place.open(columns={"key": "id", **content})
    monkeypatch.setattr("affinage.documents.sources.sql._bytes", None)
    assert paths(source) == ["a.md"]


def test_a_version_is_the_signature_and_the_content_is_not_looked_at(place: SqlPlace) -> None:
    add(place, "a", changed="2026-03-01T10:00:00+00:00")
    source = place.open(columns=columns(version="changed"))
    first = signature(source)
    place.run("UPDATE page SET body = 'other'")
    assert signature(source) == first
    place.run("UPDATE page SET changed = '2026-02-01T10:00:00+00:00'")
    assert signature(source) != first, "an older time is another one too"


@pytest.mark.parametrize(
    ("ago", "zone", "settled"), [(1, "+00:00", False), (60, "+00:00", True), (60, "", False), (15 * 3600, "", True), (None, "", False)]
)
def test_a_time_is_trusted_once_no_other_change_can_bear_it(tmp_path: Path, ago: float | None, zone: str, settled: bool) -> None:
    place = SqlitePlace(tmp_path)
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    changed = None if ago is None else (now - timedelta(seconds=ago)).replace(tzinfo=None).isoformat() + zone
    add(place, "a", changed=changed)
    (listed,) = place.open(columns=columns(version="changed")).listing()
    assert listed.signature.is_settled(int(now.timestamp()) * 1_000_000_000) is settled
    place.close()


def test_a_day_is_trusted_when_it_is_over_everywhere(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    add(place, "a", changed="2026-03-01")
    (listed,) = place.open(columns=columns(version="changed")).listing()
    noon = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert not listed.signature.is_settled(int(noon.timestamp()) * 1_000_000_000)
    assert listed.signature.is_settled(int((noon + timedelta(hours=4)).timestamp()) * 1_000_000_000)
    place.close()


def test_a_column_stands_alone_only_where_it_is_declared_so_and_narrows_elsewhere(place: SqlPlace) -> None:
    for key, readers in (("all", "everyone"), ("hr", "group:hr, user:dana"), ("json", '["group:hr"]'), ("none", None), ("wrong", "hr")):
        add(place, key, readers=readers)
    alone = rights(place, access="from_column")
    assert alone == {
        "all.md": ("everyone",), "hr.md": ("group:hr", "user:dana"), "json.md": ("group:hr",), "none.md": (), "wrong.md": (),
    }  # fmt: skip
    rules = [{"match": "all.md", "allow": ["group:law"]}, {"match": "**", "allow": ["group:hr"]}]
    both = rights(place, access=rules)
    assert both == {"all.md": ("group:law",), "hr.md": ("group:hr",), "json.md": ("group:hr",), "none.md": (), "wrong.md": ()}
    assert set(rights(place).values()) == {()}, "nothing declared: nobody"


@pytest.mark.parametrize("version", ["changed", None])
def test_text_that_changed_after_the_listing_is_not_read_under_the_rights_of_before(place: SqlPlace, version: str | None) -> None:
    add(place, "a", "for all", readers="everyone", changed="2026-03-01T10:00:00+00:00")
    given = columns(rights="readers", **({"version": version} if version else {}))
    source = place.open(columns=given, access="from_column")
    (listed,) = source.listing()
    assert source.read("a.md", listed=listed.signature) == b"for all"
    place.run("UPDATE page SET body = 'for a few', readers = 'group:hr', changed = '2026-03-01T11:00:00+00:00'")
    with pytest.raises(DocumentError, match="changed after it was listed"):
        source.read("a.md", listed=listed.signature)


def test_a_query_may_hold_colons_percents_comments_and_a_semicolon(place: SqlPlace) -> None:
    add(place, "a", "10:30 is :early and 100% free")
    source = place.open(query="SELECT id, body FROM page WHERE body LIKE '10:30 is :early%' -- only these\n;")
    assert source.read("a.md") == b"10:30 is :early and 100% free"
    assert paths(place.open(query="SELECT id, body FROM page -- a comment to the end;")) == ["a.md"]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT id FROM page", "body"),
        ("DELETE FROM page RETURNING *", "syntax|DELETE"),
        ("nonsense", "syntax|nonsense"),
    ],
)
def test_a_query_that_does_not_work_fails_the_listing(place: SqlPlace, query: str, why: str) -> None:
    add(place, "a")
    with pytest.raises(DependencyError, match=why) as failed:
        paths(place.open(query=query))
    assert failed.value.hint
    assert paths(place.open()) == ["a.md"], "nothing was changed"


def test_a_query_with_an_effect_is_refused_by_the_transaction(postgres: str) -> None:
    place = PostgresPlace(postgres)
    place.run("CREATE OR REPLACE FUNCTION wipe() RETURNS text AS 'DELETE FROM page; SELECT ''x''::text' LANGUAGE sql")
    add(place, "a")
    with pytest.raises(DependencyError, match="read-only"):
        paths(place.open(query="SELECT wipe() AS id, 'x' AS body"))
    assert paths(place.open()) == ["a.md"]
    place.close()


def test_rows_without_a_key_or_with_the_same_one_fail_the_listing(place: SqlPlace) -> None:
    add(place, "a")
    with pytest.raises(DependencyError, match="no key"):
        paths(place.open(query="SELECT id, body FROM page UNION ALL SELECT NULL, 'x'"))
    with pytest.raises(DependencyError, match="listed twice"):
        paths(place.open(query="SELECT id, body FROM page UNION ALL SELECT id, 'x' FROM page"))


SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e9) SELECT MAX(i) AS id, 'x' AS body FROM n",
    "postgresql": "SELECT pg_sleep(60)::text AS id, 'x' AS body",
}


def test_a_statement_that_takes_too_long_is_ended(place: SqlPlace) -> None:
    connections = Connections({"pages": place.url}, statement_seconds=0.2)
    source = SqlSource(place.spec(query=SLOW[place.kind]), connections)
    started = time.monotonic()
    with pytest.raises(DependencyError) as failed:
        paths(source)
    assert time.monotonic() - started < 30, "the limit is 0.2 s, the query takes a minute"
    assert failed.value.retryable
    connections.close()


def test_many_rows_come_as_a_stream(place: SqlPlace) -> None:
    if place.kind == "postgresql":
        place.run("INSERT INTO page (id, body) SELECT i::text, 'x' FROM generate_series(1, 3000) i")
    else:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        place.run(f"{numbers} INSERT INTO page (id, body) SELECT i, 'x' FROM n")
    listing = place.open().listing()
    assert next(listing).path == "1.md"
    assert len(list(listing)) == 2999


def test_an_address_is_never_shown(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    for url in ("postgresql+psycopg://me:s3cret@127.0.0.1:1/x?connect_timeout=1", "mysql://me:s3cret@db/x", "s3cret"):
        places = Places(connections={"pages": url})
        with pytest.raises((ConfigurationError, DependencyError)) as failed:
            paths(places.open(place.spec()))
        assert "s3cret" not in str(failed.value) + repr(places) + str(failed.value.__cause__)
        places.close()


def test_a_connection_that_no_operator_set_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AFFINAGE_CONNECTION_PAGES"):
        Places().open(SqlitePlace(tmp_path).spec())


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": {"key": "id"}},
        {"columns": {"key": "id", "text": "a", "blob": "b"}},
        {"columns": {"key": "id", "blob": "b", "title": "t"}},
        {"columns": {"key": "id", "text": "a", "suffix": "s"}},
        {"columns": {"key": "id", "text": "a", "title": "t"}, "suffix": ".json"},
        {"access": "from_column"},
        {"access": "from_tags"},
        {"connection": "postgresql://me:secret@db"},
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_declared(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SqlitePlace(tmp_path).spec(**wrong)
