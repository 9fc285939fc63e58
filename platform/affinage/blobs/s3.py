"""Blobs in an S3 bucket: several machines. Any server that speaks S3 will do.

Credentials come the way boto3 finds them (environment, file, role); none is read or stored here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from affinage.blobs import check_name
from affinage.errors import ConfigurationError, DependencyError, UnknownObjectError

CONNECT_SECONDS, READ_SECONDS = 5, 60
_ABSENT = {"404", "NoSuchKey", "NotFound"}


class S3Blobs:
    """Blobs as objects below one prefix; S3 shows an object whole or not at all.

    Parameters
    ----------
    url
        `s3://bucket` or `s3://bucket/prefix`.
    endpoint_url
        Of an S3 server on site; None: the one that boto3 is configured for.

    Raises
    ------
    ConfigurationError
        If `url` is no S3 URL.
    """

    def __init__(self, url: str, *, endpoint_url: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError(f"`{url}` is no place for blobs.", hint="Write s3://BUCKET or s3://BUCKET/PREFIX.", key="blobs_url")
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._endpoint_url = endpoint_url

    @cached_property
    def _client(self) -> Any:
        import boto3  # noqa: PLC0415 - half a second
        from botocore.config import Config  # noqa: PLC0415

        config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"mode": "standard", "max_attempts": 3})
        return boto3.client("s3", endpoint_url=self._endpoint_url, config=config)

    def put(self, name: str, data: bytes) -> None:
        """Store the object, with its checksum verified by the server."""
        if not self.exists(name):
            self._ask("put_object", name, Body=data, ChecksumAlgorithm="SHA256")

    def get(self, name: str) -> bytes:
        """Read the object."""
        found = self._ask("get_object", name)
        if found is None:
            raise UnknownObjectError("blob", name)
        body: bytes = found["Body"]
        return body

    def exists(self, name: str) -> bool:
        """Whether the object is there."""
        return self._ask("head_object", name) is not None

    def delete(self, name: str) -> None:
        """Delete the object."""
        self._ask("delete_object", name)

    def _ask(self, operation: str, name: str, **parameters: Any) -> dict[str, Any] | None:
        """The server's answer, or None when there is no such object."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        key = "/".join(part for part in (self._prefix, check_name(name)) if part)
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self._bucket, Key=key, **parameters)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()  # a connection may break here, too
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _ABSENT:
                return None
            raise self._failed(name, error, retryable=code not in {"AccessDenied", "403", "NoSuchBucket"}) from error
        except BotoCoreError as error:
            raise self._failed(name, error, retryable=True) from error
        return answer

    def _failed(self, name: str, error: Exception, *, retryable: bool) -> DependencyError:
        return DependencyError(
            "s3",
            f"Blob `{name}` in bucket `{self._bucket}` cannot be reached: {error}",
            hint="Check the bucket, its endpoint and the credentials that boto3 finds.",
            retryable=retryable,
        )
