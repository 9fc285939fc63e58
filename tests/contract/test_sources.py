"""Every kind of source keeps the same promises: a folder, a bucket, a table on two databases, a web site, all real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.documents.extraction.limits import MAX_BYTES
from affinage.documents.sources import Source
from affinage.errors import DependencyError, DocumentError
from tests.support.places import FolderPlace, Place, PostgresPlace, S3Place, SqlitePlace, WebPlace

NAMES = {"b.md", "a/c.md", "a.md", "a-b.md", "a/b/d.md", "a0.md", "é.md", "Z.md", "c d.md", "x&y+z.md"}


KINDS = ["folder", "s3", "s3-versions", "sqlite", pytest.param("postgresql", marks=pytest.mark.integration), "web"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    match request.param:
        case "folder":
            made: Place = FolderPlace(tmp_path)
        case "s3" | "s3-versions":
            bucket = "docs" if request.param == "s3" else "versions"
            made = S3Place(request.getfixturevalue("buckets"), bucket, tmp_path.name)
        case "sqlite":
            made = SqlitePlace(tmp_path)
        case "postgresql":
            made = PostgresPlace(request.getfixturevalue("postgres"))
        case _:
            made = WebPlace()
    yield made
    made.close()


def paths(source: Source) -> list[str]:
    return [listed.path for listed in source.listing()]


def signatures(source: Source) -> dict[str, object]:
    return {listed.path: listed.signature.as_json() for listed in source.listing()}


def test_documents_are_listed_whole_and_in_the_order_of_their_paths(place: Place) -> None:
    for name in NAMES:
        place.put(name, name)
    assert paths(place.open()) == sorted(NAMES)


def test_what_is_listed_can_be_read_also_without_a_listing(place: Place) -> None:
    for name in NAMES:
        place.put(name, f"text of {name}")
    source = place.open()
    assert {listed.path: source.read(listed.path, listed=listed.signature).decode() for listed in source.listing()} == {
        name: f"text of {name}" for name in NAMES
    }
    later = place.open()
    assert {name: later.read(name).decode() for name in NAMES} == {name: f"text of {name}" for name in NAMES}


def test_an_empty_place_has_an_empty_listing(place: Place) -> None:
    assert paths(place.open()) == []


def test_listing_again_gives_the_same_signatures(place: Place) -> None:
    for name in NAMES:
        place.put(name, name)
    assert signatures(place.open()) == signatures(place.open())


def test_a_change_of_the_same_length_at_once_changes_its_signature_and_no_other(place: Place) -> None:
    place.put("a.md", "one")
    place.put("b.md", "two")
    before = signatures(place.open())
    place.put("a.md", "six")
    after = signatures(place.open())
    assert after["a.md"] != before["a.md"]
    assert after["b.md"] == before["b.md"]
    assert place.open().read("a.md") == b"six"


def test_a_signature_is_json(place: Place) -> None:
    import json

    place.put("a.md", "one")
    (signature,) = signatures(place.open()).values()
    assert json.loads(json.dumps(signature)) == signature


def test_what_was_removed_is_listed_no_more_and_cannot_be_read(place: Place) -> None:
    place.put("a.md", "one")
    place.put("b.md", "two")
    source = place.open()
    place.remove("a.md")
    assert paths(source) == ["b.md"]
    with pytest.raises(DocumentError) as failed:
        source.read("a.md")
    assert (failed.value.reason, bool(failed.value.hint)) == ("unreadable", True)


def test_a_place_that_is_down_fails_the_listing_and_says_what_to_do(place: Place) -> None:
    place.put("a.md", "one")
    place.break_down()
    with pytest.raises(DependencyError) as failed:
        paths(place.open())
    assert failed.value.hint


def test_a_document_beyond_the_limit_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("folder", "s3", "sql", "web"):
        monkeypatch.setattr(f"affinage.documents.sources.{module}.MAX_BYTES", 10)
    monkeypatch.setattr("affinage.documents.extraction.dispatch.MAX_BYTES", 10)
    place.put("a.md", "eleven char")
    place.put("b.md", "ten  chars")
    source = place.open()
    if place.kind != "web":  # there a page is read to find its links, and none that large would be
        assert paths(source) == ["a.md", "b.md"]
    with pytest.raises(DocumentError) as failed:
        source.read("a.md")
    assert failed.value.reason == "too_large"
    assert source.read("b.md") == b"ten  chars"
    assert MAX_BYTES > 10, "the real limit is another"
