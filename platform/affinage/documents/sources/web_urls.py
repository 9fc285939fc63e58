"""One spelling for each URL of a site, and the path that stands for it in the index. Pure.

A document's path is its URL without the host, as people read it. Where the URL has no suffix that tells the format, the content
type's is added after a tilde (`conges~.html`): so each path leads back to one URL, without a list.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urljoin, urlsplit

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SAFE = "/%:@!$&'()*+,;=~-._?"
_MARKED = re.compile(r"~\.[a-z0-9]{1,10}$")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,10}$")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_SUFFIXES = {
    "text/html": (".html", ".htm", ".xhtml"),
    "application/xhtml+xml": (".xhtml", ".html", ".htm"),
    "text/markdown": (".md", ".markdown"),
    "text/plain": (".txt", ".text", ".md"),
    "text/csv": (".csv",),
    "application/pdf": (".pdf",),
    "application/json": (".json",),
    "application/jsonl": (".jsonl",),
    "application/xml": (".xml",),
    "text/xml": (".xml",),
    "message/rfc822": (".eml",),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (".docx",),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": (".pptx",),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": (".xlsx",),
    "application/vnd.oasis.opendocument.text": (".odt",),
}
# The first one is added where the URL has none of them.
_BY_SUFFIX = frozenset({"application/octet-stream", "binary/octet-stream", ""})
# Types by which a server says that it does not know.


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an http(s) URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS[parts.scheme]


def canonical(url: str, *, base: str) -> str | None:
    """The one spelling of `url`, which stands on the page `base`; None when it is no http(s) URL, or carries a password."""
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None or parts.password is not None:
            return None
        scheme, host, port = origin_of(parts.geturl())
    except ValueError:
        return None
    name = f"[{host}]" if ":" in host else host
    place = name if port == _DEFAULT_PORTS[scheme] else f"{name}:{port}"
    query = f"?{_spelled(parts.query)}" if parts.query else ""
    return f"{scheme}://{place}{_without_dots(_spelled(parts.path).replace('?', '%3F'))}{query}"


def _spelled(part: str) -> str:
    """Escapes in capitals, none that is not needed, and all that are."""
    plain = _ESCAPE.sub(lambda found: _unescaped(found.group(1)), part)
    return quote(plain, safe=_SAFE)


def _unescaped(digits: str) -> str:
    character = chr(int(digits, 16))
    return character if character in _UNRESERVED else f"%{digits.upper()}"


def _without_dots(path: str) -> str:
    kept: list[str] = []
    parts = path.split("/")[1:] or [""]
    for part in parts:
        if part == ".." and kept:
            kept.pop()
        elif part not in {".", ".."}:
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if parts[-1] in {".", ".."} and kept else "")


def path_of(url: str, content_type: str) -> str:
    """The path that stands for the document at a canonical URL, which came with this content type."""
    parts = urlsplit(url)
    shown = shown_path(url)
    own = _SUFFIX.search(shown.lower())
    kind = content_type.partition(";")[0].strip().lower()
    if own is not None and not _MARKED.search(shown.lower()) and (own.group() in _SUFFIXES.get(kind, ()) or kind in _BY_SUFFIX):
        return shown
    added = _SUFFIXES.get(kind, (".bin",))[0]
    return f"{shown}~{added}" if parts.path else f"~{added}"


def shown_path(url: str) -> str:
    """The URL without its host, with its escapes read where that can be taken back."""
    parts = urlsplit(url)
    raw = parts.path.removeprefix("/") + (f"?{parts.query}" if parts.query else "")
    try:
        text = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return raw
    return text if text.isprintable() and "%" not in text and quote(text, safe=_SAFE) == raw else raw


def url_of(path: str, *, origin: str) -> str:
    """The URL that `path_of` made `path` of; `origin` is `http(s)://HOST[:PORT]`."""
    return f"{origin}/{quote(_MARKED.sub('', path), safe=_SAFE)}"
