"""What a page and a sitemap say of other pages. Works on hostile markup: nothing is fetched, no entity is expanded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from affinage.errors import DependencyError

MAX_SITEMAP_BYTES = 50 * 1024 * 1024
# What the protocol allows, unpacked.
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class PageLinks:
    """`links` as they stand there, to be read against `base`. `canonical` names the page that this one is a copy of."""

    links: tuple[str, ...]
    base: str
    canonical: str | None
    is_indexed: bool


def links_of(data: bytes, *, url: str, charset: str | None) -> PageLinks:
    """The links of an HTML page, none where it asks robots not to follow them; a page that is no HTML has none."""
    root = _html(data, charset)
    if root is None:
        return PageLinks((), url, None, is_indexed=True)
    asked = " ".join(meta.get("content") or "" for meta in root.iter("meta") if (meta.get("name") or "").lower() == "robots").lower()
    follows = "nofollow" not in asked and "none" not in asked
    found = (element for tag in ("a", "area") for element in root.iter(tag))
    links = tuple(e.get("href") for e in found if e.get("href") and "nofollow" not in (e.get("rel") or "").lower()) if follows else ()
    base = next((element.get("href") for element in root.iter("base") if element.get("href")), url)
    canonical = next((e.get("href") for e in root.iter("link") if (e.get("rel") or "").lower() == "canonical" and e.get("href")), None)
    return PageLinks(links, base, canonical, is_indexed="noindex" not in asked and "none" not in asked)


def _html(data: bytes, charset: str | None) -> Any:
    from lxml import etree, html  # noqa: PLC0415

    for encoding in (charset, None):
        try:
            return html.document_fromstring(data, parser=html.HTMLParser(encoding=encoding, no_network=True, huge_tree=False))
        except LookupError:
            continue  # a charset that nobody knows
        except (etree.ParserError, etree.XMLSyntaxError, ValueError):
            return None
    return None


@dataclass(frozen=True)
class Sitemap:
    """Addresses of pages, and of further sitemaps."""

    pages: tuple[str, ...]
    sitemaps: tuple[str, ...]


def sitemap_of(data: bytes, *, url: str) -> Sitemap:
    """What the sitemap at `url` lists.

    Raises
    ------
    DependencyError
        If it is none: the pages that only it names would look deleted.
    """
    from lxml import etree  # noqa: PLC0415

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(_unpacked(data), parser=parser)
    except (etree.XMLSyntaxError, zlib.error, ValueError) as error:
        hint = "Correct the sitemap, or take it out of robots.txt."
        raise DependencyError("web", f"The sitemap {url} cannot be read: {error}", hint=hint, retryable=False) from error
    is_index = etree.QName(root).localname == "sitemapindex"
    named = tuple(_locations(root))
    return Sitemap((), named) if is_index else Sitemap(named, ())


def _locations(root: Any) -> Iterator[str]:
    for entry in root:
        for element in entry if isinstance(entry.tag, str) else ():
            if isinstance(element.tag, str) and element.tag.rpartition("}")[2] == "loc" and (element.text or "").strip():
                yield element.text.strip()


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(wbits=31)
    found = unpacking.decompress(data, MAX_SITEMAP_BYTES)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError("it is cut off, or too large when unpacked")
    return found
