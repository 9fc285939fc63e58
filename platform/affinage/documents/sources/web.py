"""Documents of a web site: what can be reached by links and sitemaps from one page, on its host.

A listing is a crawl. It ends with the whole site or with an error: a page that fails, or a site larger than declared, would
otherwise look like deleted pages. Pages that are gone, moved away, closed to us or to robots are not part of the site.
"""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.robotparser import RobotFileParser

from affinage.declarations.model import WebSpec
from affinage.documents.extraction.dispatch import too_large
from affinage.documents.extraction.limits import MAX_BYTES
from affinage.documents.sources.listed import Listed, Signature, in_order, is_before
from affinage.documents.sources.web_client import AGENT, Fetched, SiteClient, resolve_host
from affinage.documents.sources.web_pages import MAX_SITEMAP_BYTES, links_of, sitemap_of
from affinage.documents.sources.web_urls import canonical, path_of, shown_path, url_of
from affinage.errors import DependencyError, DocumentError
from affinage.identity.access import AccessRule, allowed
from affinage.identity.rights import EVERYONE

MAX_ROBOTS_BYTES = 512 * 1024
# What the standard asks a crawler to read at least.
MAX_SITEMAPS = 100
MAX_DELAY_SECONDS = 60.0
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True)
class PageSignature:
    """The digest of a page that was read for its links; of other files what the server says of them.

    `is_exact`: the server cannot give the same again for another content.
    """

    digest: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    length: str | None = None
    is_exact: bool = True

    def as_json(self) -> dict[str, str]:
        """For a JSON column."""
        given = {"digest": self.digest, "etag": self.etag, "last_modified": self.last_modified, "length": self.length}
        return {name: value for name, value in given.items() if value is not None}

    def is_settled(self, scan_started_ns: int) -> bool:  # noqa: ARG002  it was judged by the server's clock
        """Whether it can be trusted the next time."""
        return self.is_exact


class WebSource:
    """A web site.

    Parameters
    ----------
    egress_hosts
        Hosts that operators allow, and the private addresses among them.

    Raises
    ------
    ConfigurationError
        If the site's host is not one of `egress_hosts`.
    """

    def __init__(
        self,
        spec: WebSpec,
        *,
        egress_hosts: Sequence[str],
        resolve: Callable[[str, int], list[str]] = resolve_host,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spec = spec
        self._client = SiteClient(spec.url, egress_hosts=egress_hosts, delay_seconds=spec.delay_seconds, resolve=resolve, sleep=sleep)
        self._start = canonical(spec.url, base=spec.url) or spec.url
        self._origin = self._start.partition("://")[0] + "://" + self._start.partition("://")[2].partition("/")[0]
        self._exclude = tuple(AccessRule(unicodedata.normalize("NFC", glob), (EVERYONE,)) for glob in spec.exclude)

    def listing(self) -> Iterator[Listed]:
        """The whole site, as `Source.listing` promises; it is crawled before the first document comes."""
        found = _Crawl(self._spec, self._client, self._start, self._is_excluded).run()
        return in_order("web", (Listed(path, found[path]) for path in sorted(found)))

    def _is_excluded(self, url: str) -> bool:
        return bool(allowed(self._exclude, unicodedata.normalize("NFC", shown_path(url))))

    def read(self, path: str, *, listed: Signature | None = None) -> bytes:  # noqa: ARG002  its rights do not travel with the page
        """The page at `path` as it is now, as `Source.read` promises."""
        url = url_of(path, origin=self._origin)
        found = self._client.get(url, max_bytes=MAX_BYTES)
        if found is None or found.status != HTTPStatus.OK:
            raise _unreadable(path, "it leads to another site" if found is None else f"the server answers with status {found.status}")
        if _site_path(found) != path:
            raise _unreadable(path, "it has moved, or is of another type now")
        if found.body is None:
            raise too_large(path, int(found.headers.get("content-length", MAX_BYTES + 1)))
        return found.body


class _Crawl:
    """One walk through a site, in breadth, so that a page's depth does not depend on chance."""

    def __init__(self, spec: WebSpec, client: SiteClient, start: str, is_excluded: Callable[[str], bool]) -> None:
        self._spec = spec
        self._client = client
        self._start = start
        self._is_excluded = is_excluded
        self._robots = RobotFileParser()
        self._found: dict[str, PageSignature] = {}
        self._waiting: deque[tuple[str, int]] = deque()
        self._seen: set[str] = set()

    def run(self) -> dict[str, PageSignature]:
        """The signature of each document by its path."""
        self._read_robots()
        self._enqueue(self._start, depth=0)
        if not self._waiting:
            raise self._failed(
                "robots.txt or `exclude` forbids the page that it starts with", hint="Correct `url`, or ask the site's owner."
            )
        if self._spec.max_depth > 0:
            self._read_sitemaps()
        asked = 0
        while self._waiting:
            url, depth = self._waiting.popleft()
            asked += 1
            if asked > self._spec.max_pages:
                raise self._failed(
                    f"it has more than {self._spec.max_pages} pages", hint="Raise `max_pages`, or leave parts out with `exclude`."
                )
            self._visit(url, depth)
        return self._found

    def _enqueue(self, url: str, *, depth: int) -> None:
        if url in self._seen or depth > self._spec.max_depth or not self._client.is_here(url):
            return
        self._seen.add(url)
        if self._robots.can_fetch(AGENT, url) and not self._is_excluded(url):
            self._waiting.append((url, depth))

    def _visit(self, url: str, depth: int) -> None:
        found = self._client.get(url, max_bytes=MAX_BYTES, wants_body=_wants_body)
        if found is None or found.status != HTTPStatus.OK:
            if url == self._start:
                why = "leads to another site" if found is None else f"answers with status {found.status}"
                raise self._failed(f"the page that it starts with {why}", hint="Correct `url`.")
            return
        if found.url != url:
            # The page has another name: it is listed once, under that.
            if found.url in self._seen:
                return
            self._seen.add(found.url)
            if not self._robots.can_fetch(AGENT, found.url) or self._is_excluded(found.url):
                return
        if found.content_type not in _PAGES:
            self._found[_site_path(found)] = _signature(found)
            return
        if found.body is None:
            raise self._failed(f"{found.url} is too large to look for its links", hint="Leave it out with `exclude`.")
        self._visit_page(found, depth)

    def _visit_page(self, found: Fetched, depth: int) -> None:
        page = links_of(found.body or b"", url=found.url, charset=found.charset)
        base = canonical(page.base, base=found.url) or found.url
        original = canonical(page.canonical, base=base) if page.canonical else None
        if original is not None and original != found.url and self._client.is_here(original):
            # A copy of that page, which stands for both.
            self._enqueue(original, depth=depth)
        elif page.is_indexed:
            self._found[_site_path(found)] = _signature(found)
        for link in page.links:
            target = canonical(link, base=base)
            if target is not None:
                self._enqueue(target, depth=depth + 1)

    def _read_robots(self) -> None:
        found = self._client.get(self._at("/robots.txt"), max_bytes=MAX_ROBOTS_BYTES)
        if found is None or found.status not in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            self._robots.parse([])
        elif found.status != HTTPStatus.OK:
            self._robots.parse(["User-agent: *", "Disallow: /"])
        elif found.body is None:
            raise self._failed("its robots.txt is too large", hint="Ask the site's owner.")
        else:
            self._robots.parse(found.body.decode("utf-8", "replace").splitlines())
        asked = float(self._robots.crawl_delay(AGENT) or 0)
        self._client.delay_seconds = max(self._client.delay_seconds, min(asked, MAX_DELAY_SECONDS))

    def _read_sitemaps(self) -> None:
        named = self._robots.site_maps() or [self._at("/sitemap.xml")]
        waiting = deque(url for name in named if (url := canonical(name, base=self._start)) is not None)
        read: set[str] = set()
        while waiting:
            url = waiting.popleft()
            if url in read or not self._client.is_here(url):
                continue
            read.add(url)
            if len(read) > MAX_SITEMAPS:
                raise self._failed(f"it has more than {MAX_SITEMAPS} sitemaps", hint="Ask the site's owner.")
            found = self._client.get(url, max_bytes=MAX_SITEMAP_BYTES)
            if found is None or found.status != HTTPStatus.OK:
                continue
            if found.body is None:
                raise self._failed(f"the sitemap {url} is too large", hint="Ask the site's owner.")
            sitemap = sitemap_of(found.body, url=url)
            waiting.extend(target for name in sitemap.sitemaps if (target := canonical(name, base=url)) is not None)
            for name in sitemap.pages:
                target = canonical(name, base=url)
                if target is not None:
                    self._enqueue(target, depth=1)

    def _at(self, path: str) -> str:
        return canonical(path, base=self._start) or self._start

    def _failed(self, why: str, *, hint: str) -> DependencyError:
        return DependencyError("web", f"{self._spec.url} cannot be listed: {why}.", hint=hint, retryable=False)


def _wants_body(found: Fetched) -> bool:
    """Pages for their links; other files only when nothing else tells whether they changed."""
    if found.content_type in _PAGES:
        return True
    return "etag" not in found.headers and "last-modified" not in found.headers


def _signature(found: Fetched) -> PageSignature:
    if found.body is not None:
        return PageSignature(digest=hashlib.sha256(found.body).hexdigest())
    headers = found.headers
    etag, modified = headers.get("etag"), headers.get("last-modified")
    # A weak ETag only promises that the difference does not matter to a browser.
    is_exact = (etag is not None and not etag.startswith("W/")) or _is_older(modified, than=headers.get("date"))
    return PageSignature(etag=etag, last_modified=modified, length=headers.get("content-length"), is_exact=is_exact)


def _is_older(modified: str | None, *, than: str | None) -> bool:
    """Whether the last change is further back than the clock's grain, both by the server's clock."""
    try:
        at = parsedate_to_datetime(modified or "")
        served = parsedate_to_datetime(than) if than else datetime.now(UTC)
    except (ValueError, TypeError):
        return False
    return is_before(int(at.timestamp()) * 1_000_000_000, int(served.timestamp()) * 1_000_000_000)


def _site_path(found: Fetched) -> str:
    return path_of(found.url, found.headers.get("content-type", ""))


def _unreadable(path: str, why: str) -> DocumentError:
    return DocumentError(path, "unreadable", f"{path} cannot be read: {why}.", hint="Check the page; the next sync tries again.")
