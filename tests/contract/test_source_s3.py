"""What only a bucket has: pages, versions, tags, archived objects, and a server that cuts a listing short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affinage.documents.sources import Places, Source, allow_of
from affinage.documents.sources.s3 import ObjectSignature, S3Source
from affinage.errors import ConfigurationError, DependencyError, DocumentError
from tests.support.places import S3Place
from tests.support.site import Answer, Site


@pytest.fixture
def place(buckets: str, tmp_path: Path) -> S3Place:
    return S3Place(buckets, "docs", tmp_path.name)


@pytest.fixture
def versioned(buckets: str, tmp_path: Path) -> S3Place:
    return S3Place(buckets, "versions", tmp_path.name)


def opened(place: S3Place, **more: Any) -> S3Source:
    return S3Source(place.spec(), egress_hosts=("127.0.0.1",), **more)


def rights(place: S3Place, **more: Any) -> dict[str, tuple[str, ...]]:
    spec = place.spec(**more)
    source = Places(egress_hosts=("127.0.0.1",)).open(spec)
    allow = allow_of(spec, source)
    return {listed.path: allow(listed) for listed in source.listing()}


def paths(source: Source) -> list[str]:
    return [listed.path for listed in source.listing()]


@pytest.mark.parametrize("bucket", ["docs", "versions"])
def test_a_listing_goes_on_from_page_to_page(buckets: str, tmp_path: Path, bucket: str) -> None:
    place = S3Place(buckets, bucket, tmp_path.name)
    names = [f"{number:02}.md" for number in range(7)]
    for name in names:
        place.put(name, "old")
        place.put(name, name)
    assert paths(opened(place, page_objects=2)) == names


def test_a_prefix_is_a_folder_and_folders_are_no_documents(place: S3Place) -> None:
    place.put("a/b.md", "text")
    place.put("a/", "")
    place.client.put_object(Bucket="docs", Key=f"{place.prefix}-draft/c.md", Body=b"another folder")
    assert paths(opened(place)) == ["a/b.md"]


def test_an_overwrite_within_one_second_of_the_server_is_seen(place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put("a.md", "one")
    (first,) = opened(place).listing()
    place.put("a.md", "two")
    (second,) = opened(place).listing()
    assert isinstance(first.signature, ObjectSignature)
    assert isinstance(second.signature, ObjectSignature)
    assert first.signature.size == second.signature.size
    assert first.signature.etag != second.signature.etag
    # Neither is trusted before the server's clock, which ticks in seconds, has gone on.
    assert not second.signature.is_settled(second.signature.modified_ns + 1_000_000_000)
    assert second.signature.is_settled(second.signature.modified_ns + 3_000_000_000)


def test_a_version_is_part_of_the_signature_and_old_ones_and_deleted_objects_are_not_listed(versioned: S3Place) -> None:
    versioned.put("a.md", "same")
    (first,) = opened(versioned).listing()
    versioned.put("a.md", "same")
    versioned.put("gone.md", "text")
    versioned.remove("gone.md")
    (second,) = opened(versioned).listing()
    before, after = first.signature.as_json(), second.signature.as_json()
    assert before["version"]
    assert before["version"] != after["version"]
    assert (before["etag"], before["size"]) == (after["etag"], after["size"])


@pytest.mark.parametrize("bucket", ["docs", "versions"])
def test_a_tag_stands_alone_only_where_it_is_declared_so_and_narrows_elsewhere(buckets: str, tmp_path: Path, bucket: str) -> None:
    place = S3Place(buckets, bucket, tmp_path.name)
    place.put("all.md", "x", Tagging="readers=everyone")
    place.put("hr.md", "x", Tagging="readers=group:hr user:dana&colour=red")
    place.put("none.md", "x")
    place.put("wrong.md", "x", Tagging="readers=everyone hr")
    alone = rights(place, rights_tag="readers", access="from_tags")
    assert alone == {"all.md": ("everyone",), "hr.md": ("group:hr", "user:dana"), "none.md": (), "wrong.md": ()}
    rules = [{"match": "all.md", "allow": ["group:hr"]}, {"match": "**", "allow": ["group:hr", "group:law"]}]
    both = rights(place, rights_tag="readers", access=rules)
    assert both == {"all.md": ("group:hr",), "hr.md": ("group:hr",), "none.md": (), "wrong.md": ()}
    assert rights(place) == dict.fromkeys(alone, ()), "nothing declared: nobody"


def test_text_that_was_written_after_the_listing_is_not_read_under_the_rights_of_before(place: S3Place) -> None:
    place.put("a.md", "for all", Tagging="readers=everyone")
    source = place.open(rights_tag="readers", access="from_tags")
    (listed,) = source.listing()
    place.put("a.md", "for a few", Tagging="readers=group:hr")
    with pytest.raises(DocumentError, match="changed after it was listed"):
        source.read("a.md", listed=listed.signature)
    # Without rights of its own, what is there now falls under the same rule.
    assert place.open().read("a.md", listed=listed.signature) == b"for a few"


def test_an_archived_object_fails_alone(place: S3Place) -> None:
    place.put("a.md", "cold", StorageClass="GLACIER")
    source = opened(place)
    assert paths(source) == ["a.md"]
    with pytest.raises(DocumentError, match="archived"):
        source.read("a.md")


def test_a_bucket_that_is_missing_is_not_an_empty_one(buckets: str) -> None:
    with pytest.raises(DependencyError, match="s3://nowhere/x/") as failed:
        paths(opened(S3Place(buckets, "nowhere", "x")))
    assert not failed.value.retryable


def test_a_server_that_is_not_named_by_operators_is_never_asked(place: S3Place) -> None:
    for hosts in ((), ("storage.example.org",)):
        with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1"):
            S3Source(place.spec(), egress_hosts=hosts)
    S3Source(place.spec().model_copy(update={"endpoint": None}), endpoint_url=place.endpoint)
    with pytest.raises(ConfigurationError, match="amazonaws"):
        S3Source(place.spec().model_copy(update={"endpoint": None}))


def test_a_profile_that_does_not_exist_is_a_wrong_configuration(place: S3Place) -> None:
    spec = place.spec(profile="nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        S3Source(spec, egress_hosts=("127.0.0.1",))


@pytest.fixture
def liar(buckets: str) -> Iterator[Site]:
    """A server that answers a listing with what a test says."""
    site = Site()
    yield site
    site.close()


XML = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>docs</Name>
<IsTruncated>{truncated}</IsTruncated>{token}{contents}</ListBucketResult>"""
OBJECT = "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>&quot;1&quot;</ETag><Size>1</Size></Contents>"


def says(site: Site, *keys: str, truncated: str = "false", token: str = "") -> S3Source:
    body = XML.format(truncated=truncated, token=token, contents="".join(OBJECT.format(key=key) for key in keys)).encode()
    answer = Answer(body, headers={"Content-Type": "application/xml"})

    class Anything(dict[str, Answer]):
        def get(self, path: str, default: Any = None) -> Answer:
            return Answer(b"<VersioningConfiguration/>") if "versioning" in path else answer

    site.pages = Anything()
    place = S3Place.__new__(S3Place)
    place.endpoint, place.bucket, place.prefix = site.url, "docs", ""
    return opened(place)


def test_a_listing_that_says_there_is_more_and_not_where_is_not_complete(liar: Site) -> None:
    assert paths(says(liar, "a.md")) == ["a.md"]
    with pytest.raises(DependencyError, match="broke off"):
        paths(says(liar, "a.md", truncated="true"))


def test_a_listing_that_never_gets_further_is_not_complete(liar: Site) -> None:
    with pytest.raises(DependencyError, match=r"broke off|listed twice"):
        paths(says(liar, "a.md", truncated="true", token="<NextContinuationToken>same</NextContinuationToken>"))


def test_a_listing_that_is_not_sorted_is_refused(liar: Site) -> None:
    with pytest.raises(DependencyError, match="listed after"):
        paths(says(liar, "b.md", "a.md"))


def test_an_object_that_breaks_off_is_not_half_a_document(liar: Site) -> None:
    found = says(liar)

    class Short(dict[str, Answer]):
        def get(self, path: str, default: Any = None) -> Answer:
            return Answer(b"half", promised=8)

    liar.pages = Short()
    with pytest.raises(DependencyError) as failed:
        found.read("a.md")
    assert failed.value.retryable


def test_signatures_hold_nothing_but_json(place: S3Place) -> None:
    place.put("a.md", "x")
    (listed,) = opened(place).listing()
    assert set(json.loads(json.dumps(listed.signature.as_json()))) == {"etag", "size", "version", "modified_ns"}
