"""What every place that documents come from can do. Its implementations pass `tests/contract/test_sources.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from affinage.documents.sources.listed import Listed, Signature


class Source(Protocol):
    """A place documents come from."""

    def listing(self) -> Iterator[Listed]:
        """Every document, sorted by path (by code points), as a stream that ends without error only when it is complete.

        Raises
        ------
        DependencyError
            If the place cannot be reached, or its listing broke off or was cut short: what is not listed would otherwise look
            deleted.
        """

    def read(self, path: str, *, listed: Signature | None = None) -> bytes:
        """The bytes of the document at `path`.

        Parameters
        ----------
        listed
            What the listing said of it. A place that itself says who may read a document refuses when the document has changed
            since: the new text must not appear under the old rights. Others give what is there now.

        Raises
        ------
        DocumentError
            `unreadable` when it is gone, changed or may not be read; `too_large` beyond the limit.
        DependencyError
            If the place cannot be reached.
        """
