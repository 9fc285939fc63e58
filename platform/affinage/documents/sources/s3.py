"""Documents in an S3 bucket. Any server that speaks S3 will do.

Credentials come the way boto3 finds them (environment, file, role, or the declared profile); none is read or stored here.
A key ends in `/` when it stands for a folder: that is no document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from affinage.declarations.model import S3Spec
from affinage.documents.extraction.dispatch import too_large
from affinage.documents.extraction.limits import MAX_BYTES
from affinage.documents.sources.egress import check_host
from affinage.documents.sources.granted import principals_of
from affinage.documents.sources.listed import Listed, Signature, in_order, is_before
from affinage.errors import ConfigurationError, DependencyError, DocumentError

CONNECT_SECONDS, READ_SECONDS = 5, 60
PAGE_OBJECTS = 1000
# The most that S3 lists at once.

_OF_THE_OBJECT = {
    "404": "it is gone",
    "NoSuchKey": "it is gone",
    "NoSuchVersion": "it is gone",
    "412": "it changed after it was listed",
    "PreconditionFailed": "it changed after it was listed",
    "AccessDenied": "access to it is denied",
    "403": "access to it is denied",
    "InvalidObjectState": "it is archived",
}
# What S3 answers about one object; anything else is about the bucket or the server.
_PERMANENT = frozenset({"403", "AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "SignatureDoesNotMatch"})


@dataclass(frozen=True)
class ObjectSignature:
    """An object's ETag, size and version, and when it was written by the server's clock, which ticks in seconds.

    The time alone would miss a second write within its second. The ETag is of the content, or new with each write where the
    bucket is encrypted with keys of its own.
    """

    etag: str
    size: int
    version: str | None
    modified_ns: int

    def as_json(self) -> dict[str, Any]:
        """For a JSON column."""
        return {"etag": self.etag, "size": self.size, "version": self.version, "modified_ns": self.modified_ns}

    def is_settled(self, scan_started_ns: int) -> bool:
        """Whether it is older than the scan by more than the clock's grain."""
        return is_before(self.modified_ns, scan_started_ns)


class S3Source:
    """The objects below a prefix.

    Parameters
    ----------
    egress_hosts
        Hosts that a declared `endpoint` may have, and boto3's own when nothing else is set.
    endpoint_url
        Server of a source that declares none, as operators set it; None: the one that boto3 is configured for.
    page_objects
        Objects asked for at a time.

    Raises
    ------
    ConfigurationError
        If the server is not one of `egress_hosts`, or there is no such profile.
    """

    def __init__(
        self, spec: S3Spec, *, egress_hosts: Sequence[str] = (), endpoint_url: str | None = None, page_objects: int = PAGE_OBJECTS
    ) -> None:
        self._spec = spec
        self._endpoint_url = spec.endpoint or endpoint_url
        self._page_objects = page_objects
        if spec.endpoint is not None or endpoint_url is None:
            check_host(urlsplit(self._client.meta.endpoint_url).hostname or "", egress_hosts)

    @cached_property
    def _client(self) -> Any:
        import boto3  # noqa: PLC0415 - half a second
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"mode": "standard", "max_attempts": 3})
        try:
            return boto3.Session(profile_name=self._spec.profile).client("s3", endpoint_url=self._endpoint_url, config=config)
        except (BotoCoreError, ValueError) as error:
            hint = "Correct `profile` or `endpoint`, or the configuration of boto3 on this machine."
            raise ConfigurationError(f"Source `{self._spec.name}` has no usable S3 client: {error}", hint=hint) from error

    def listing(self) -> Iterator[Listed]:
        """Every object below the prefix, as `Source.listing` promises."""
        return in_order("s3", (self._listed(found) for found in self._objects() if self._is_document(found["Key"])))

    def _is_document(self, key: str) -> bool:
        return not key.endswith("/")

    def _listed(self, found: Mapping[str, Any]) -> Listed:
        key: str = found["Key"]
        version = found.get("VersionId")
        modified_ns = int(found["LastModified"].timestamp()) * 1_000_000_000
        signature = ObjectSignature(found["ETag"].strip('"'), found["Size"], version, modified_ns)
        granted = self._granted(key, version) if self._spec.rights_tag is not None else None
        return Listed(key.removeprefix(self._spec.prefix), signature, granted)

    def _granted(self, key: str, version: str | None) -> tuple[str, ...]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        # Without its version, the tags would be those of an object that was written after the listing.
        wanted = {} if version is None else {"VersionId": version}
        try:
            tags = self._client.get_object_tagging(Bucket=self._spec.bucket, Key=key, **wanted)["TagSet"]
        except ClientError as error:
            if _code(error) in {"NoSuchKey", "NoSuchVersion", "404"}:
                return ()  # it went after it was listed; reading it says so
            raise self._failed("The tags cannot be read", error) from error
        except BotoCoreError as error:
            raise self._failed("The tags cannot be read", error) from error
        return principals_of(next((tag["Value"] for tag in tags if tag["Key"] == self._spec.rights_tag), None))

    def _objects(self) -> Iterator[Mapping[str, Any]]:
        """What the server lists, page after page; a page that does not say how to go on is an error and no end."""
        if self._is_versioned:
            pages = self._pages("list_object_versions", {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"})
            return (found for page in pages for found in page.get("Versions", ()) if found["IsLatest"])
        pages = self._pages("list_objects_v2", {"NextContinuationToken": "ContinuationToken"})
        return (found for page in pages for found in page.get("Contents", ()))

    def _pages(self, operation: str, following: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        marks: dict[str, str] = {}
        while True:
            page = self._ask(operation, Prefix=self._spec.prefix, MaxKeys=self._page_objects, **marks)
            yield page
            if not page.get("IsTruncated"):
                return
            before, marks = marks, {asked: page[told] for told, asked in following.items() if page.get(told)}
            if not marks or marks == before:
                raise DependencyError(
                    "s3",
                    f"The listing of {self._spec.place} broke off: the server says that there is more, and not where.",
                    hint="Run it again; if it stays so, the server does not list as S3 does.",
                )

    @cached_property
    def _is_versioned(self) -> bool:
        """Whether objects have versions. Who may not ask is answered by the plain listing: its ETags tell contents apart."""
        try:
            return self._ask("get_bucket_versioning").get("Status") in {"Enabled", "Suspended"}
        except DependencyError as error:
            if not error.retryable and _code(error.__cause__) in {"AccessDenied", "403"}:
                return False
            raise

    def read(self, path: str, *, listed: Signature | None = None) -> bytes:
        """The bytes of the object at `path`, as `Source.read` promises; its size is looked at before its content."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        wanted = {}
        if self._spec.carries_rights and isinstance(listed, ObjectSignature):
            wanted["IfMatch"] = f'"{listed.etag}"'
        try:
            answer = self._client.get_object(Bucket=self._spec.bucket, Key=self._spec.prefix + path, **wanted)
            # Not as a context manager: that would give urllib3's own stream, and its errors.
            with closing(answer["Body"]):
                if answer["ContentLength"] > MAX_BYTES:
                    raise too_large(path, answer["ContentLength"])
                data: bytes = answer["Body"].read()
        except ClientError as error:
            why = _OF_THE_OBJECT.get(_code(error))
            if why is None:
                raise self._failed(f"`{path}` cannot be read", error) from error
            hint = "Check the object and the rights of the credentials; the next sync tries again."
            raise DocumentError(path, "unreadable", f"{path} cannot be read: {why}.", hint=hint) from error
        except BotoCoreError as error:
            raise self._failed(f"`{path}` cannot be read", error) from error
        return data

    def _ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self._spec.bucket, **parameters)
        except (BotoCoreError, ClientError) as error:
            raise self._failed("It cannot be listed", error) from error
        return answer

    def _failed(self, what: str, error: Exception) -> DependencyError:
        return DependencyError(
            "s3",
            f"{self._spec.place}: {what}: {error}",
            hint="Check the bucket, its endpoint and the credentials that boto3 finds.",
            retryable=_code(error) not in _PERMANENT,
        )


def _code(error: BaseException | None) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
