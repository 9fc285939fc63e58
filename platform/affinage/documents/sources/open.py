"""From a declared source to the place itself, and to its rights."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from affinage.declarations.model import FolderSpec, S3Spec, SourceSpec, SqlSpec, WebSpec
from affinage.documents.sources.access_files import FileAccess
from affinage.documents.sources.folder import FolderSource
from affinage.documents.sources.listed import Listed
from affinage.documents.sources.protocol import Source
from affinage.documents.sources.s3 import S3Source
from affinage.documents.sources.sql import Connections, SqlSource
from affinage.documents.sources.web import WebSource
from affinage.identity.access import allowed
from affinage.identity.rights import intersection


@dataclass(frozen=True)
class Places:
    """Where sources may lie and how they are reached: what operators set, whatever is declared.

    Parameters
    ----------
    source_roots
        Folders below which folders must lie. Empty: anywhere.
    egress_hosts
        Hosts that a bucket's server and a web site may have; a private address of a web site's host must stand here too.
    s3_endpoint_url
        Server of the buckets whose source names none; None: the one that boto3 is configured for.
    connections
        SQLAlchemy URL of each database by its name: secrets.
    """

    source_roots: tuple[Path, ...] = ()
    egress_hosts: tuple[str, ...] = ()
    s3_endpoint_url: str | None = None
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    _databases: Connections = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_databases", Connections(self.connections))

    def open(self, spec: SourceSpec) -> Source:
        """The place that `spec` declares.

        Raises
        ------
        ConfigurationError
            If it lies outside what operators allow.
        """
        match spec:
            case FolderSpec():
                return FolderSource(spec.path, roots=self.source_roots)
            case S3Spec():
                return S3Source(spec, egress_hosts=self.egress_hosts, endpoint_url=self.s3_endpoint_url)
            case SqlSpec():
                return SqlSource(spec, self._databases)
            case WebSpec():
                return WebSource(spec, egress_hosts=self.egress_hosts)
            case _:
                raise ValueError(f"no module reads sources of kind {spec.kind!r}")

    def close(self) -> None:
        """Close the connections to databases."""
        self._databases.close()


def allow_of(spec: SourceSpec, source: Source) -> Callable[[Listed], tuple[str, ...]]:
    """A function from a listed document to the sorted principals that may read it; empty: nobody.

    Make a new one for each run: what `ACCESS.yaml` files say is read once and kept. Paths and globs are compared in
    NFC, since a disk may write an accent in two ways and a rule that misses its documents could leave them to a wider one.
    Principals that the place itself names narrow the rules; only `access: from_...` lets them stand alone.
    """
    if isinstance(source, FolderSource) and spec.access == "from_files":
        files = FileAccess(source)
        return lambda listed: files(listed.path)
    if isinstance(spec.access, str):
        return lambda listed: listed.granted or ()
    rules = spec.rules()

    def label(listed: Listed) -> tuple[str, ...]:
        declared = allowed(rules, unicodedata.normalize("NFC", listed.path))
        if not spec.carries_rights:
            return declared
        return tuple(sorted(intersection([declared, listed.granted or ()])))

    return label
