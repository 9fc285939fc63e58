"""Every blob store keeps the same promises: a folder, and a bucket behind real HTTP."""

import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from affinage.blobs import BlobStore, digest_of
from affinage.blobs.folder import FolderBlobs
from affinage.blobs.s3 import S3Blobs
from affinage.errors import ConfigurationError, DependencyError, UnknownObjectError


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server on this machine with the bucket `blobs`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(key, "test")
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        place = {"LocationConstraint": "eu-west-3"}
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="blobs", CreateBucketConfiguration=place)
        yield url
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return FolderBlobs(tmp_path / "blobs")
    return S3Blobs(f"s3://blobs/{tmp_path.name}", endpoint_url=request.getfixturevalue("endpoint"))


def test_what_was_put_is_read_back_and_again_is_a_no_op(blobs: BlobStore) -> None:
    name = f"texts/{digest_of(b'hello')}"
    blobs.put(name, b"hello")
    blobs.put(name, b"hello")
    assert blobs.get(name) == b"hello"
    assert blobs.exists(name)


def test_an_absent_blob_is_named_in_the_error(blobs: BlobStore) -> None:
    with pytest.raises(UnknownObjectError, match="texts/none"):
        blobs.get("texts/none")


def test_the_first_bytes_under_a_name_stay(blobs: BlobStore) -> None:
    blobs.put("texts/a", b"first")
    blobs.put("texts/a", b"second")
    assert blobs.get("texts/a") == b"first"


def test_a_deleted_blob_is_absent_and_deleting_again_is_fine(blobs: BlobStore) -> None:
    blobs.put("texts/a", b"x")
    blobs.delete("texts/a")
    blobs.delete("texts/a")
    assert not blobs.exists("texts/a")


def test_many_bytes_come_back_as_they_were(blobs: BlobStore) -> None:
    data = bytes(range(256)) * 40_000
    blobs.put("adapters/a.safetensors", data)
    assert digest_of(blobs.get("adapters/a.safetensors")) == digest_of(data)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_a_name_never_leaves_the_folder(blobs: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a blob name"):
        blobs.put(name, b"x")


def test_prefixes_keep_installations_apart(endpoint: str) -> None:
    one, two = (S3Blobs(f"s3://blobs/{name}/", endpoint_url=endpoint) for name in ("one", "two"))
    one.put("texts/a", b"x")
    assert one.exists("texts/a")
    assert not two.exists("texts/a")


def test_a_bucket_that_is_missing_is_named(endpoint: str) -> None:
    with pytest.raises(DependencyError, match="bucket `nowhere`") as failed:
        S3Blobs("s3://nowhere", endpoint_url=endpoint).put("texts/a", b"x")
    assert not failed.value.retryable


def test_a_server_that_is_down_is_retryable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.MonkeyPatch.context() as patch:
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
                patch.setenv(key, "eu-west-3")
            with pytest.raises(DependencyError, match="texts/a") as failed:
                S3Blobs("s3://blobs", endpoint_url=url).get("texts/a")
    assert failed.value.retryable


@pytest.mark.parametrize("url", ["https://blobs", "s3://", "blobs", "s3://blobs?x=1"])
def test_a_place_that_is_no_bucket_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no place for blobs"):
        S3Blobs(url)
