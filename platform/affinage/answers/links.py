"""No link leaves that does not stand in a text the reader gave or may read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Anything a renderer might turn into a request: schemes, protocol-relative and `www.` addresses, Markdown and HTML links.
_LINK = re.compile(r"(?:[a-z][a-z0-9+.-]*://|//(?=\w)|www\.|mailto:|javascript:|data:)[^\s<>()\[\]\"'`]+", re.IGNORECASE)
_MARKUP = re.compile(
    r"!?\[([^\]]*)\]\(([^)]*)\)"
    r"|!?\[([^\]]*)\]\[[^\]]*\]"
    r"|<(?:a|img|script|iframe|link|object|embed|form|svg|video|audio)\b[^>]*>",
    re.IGNORECASE,
)


def foreign_links(text: str, allowed: Iterable[str]) -> list[str]:
    """Links in `text` that are in none of the `allowed` texts, in order."""
    known = list(allowed)
    return [link for link in _LINK.findall(text) if not any(link in other for other in known)]


def without_foreign_links(text: str, allowed: Iterable[str]) -> str:
    """`text` without markup of links and images, and without the addresses that `foreign_links` names."""
    plain = _MARKUP.sub(lambda found: found.group(1) or found.group(3) or "", text)
    for link in foreign_links(plain, allowed):
        plain = plain.replace(link, "")
    return plain
