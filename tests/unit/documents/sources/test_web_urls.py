from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinage.documents.sources.web_urls import canonical, path_of, url_of

BASE = "https://www.example.org/a/b"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("c", "https://www.example.org/a/c"),
        ("/c/./d/../e/", "https://www.example.org/c/e/"),
        ("/../../x", "https://www.example.org/x"),
        ("/a/..", "https://www.example.org/"),
        ("HTTPS://WWW.Example.ORG:443", "https://www.example.org/"),
        ("http://www.example.org:80/#x", "http://www.example.org/"),
        ("https://www.example.org:8443/", "https://www.example.org:8443/"),
        ("/%7Euser/%e9/%2f", "https://www.example.org/~user/%E9/%2F"),
        ("/é?q=é à", "https://www.example.org/%C3%A9?q=%C3%A9%20%C3%A0"),
        ("?", "https://www.example.org/a/b"),
        ("  /x\n", "https://www.example.org/x"),
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"),
        ("https://me:secret@www.example.org/", None),
        ("mailto:x@example.org", None),
        ("javascript:alert(1)", None),
        ("https://[broken/", None),
        ("https://www.example.org:port/", None),
    ],
)
def test_each_url_has_one_spelling(url: str, expected: str | None) -> None:
    assert canonical(url, base=BASE) == expected
    if expected is not None:
        assert canonical(expected, base="http://other/") == expected


TYPES = ["text/html", "text/html; charset=utf-8", "application/pdf", "image/png", "application/octet-stream", ""]


@given(st.text(min_size=0, max_size=20), st.text(max_size=8), st.sampled_from(TYPES))
def test_a_path_leads_back_to_its_url_whatever_that_holds(path: str, query: str, content_type: str) -> None:
    url = canonical("/" + path.replace("\\", "") + (f"?{query}" if query else ""), base="https://www.example.org/")
    if url is None or not url.startswith("https://www.example.org/"):
        return  # it led to another host
    found = path_of(url, content_type)
    assert url_of(found, origin="https://www.example.org") == url
    assert found.isprintable()


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "a.html", "a~.html", "a/", "a.html/", "", "~", "a?x", "a.pdf"]), st.sampled_from(TYPES)), max_size=8
    )
)
def test_two_urls_never_have_one_path(pages: list[tuple[str, str]]) -> None:
    kinds = dict(pages)  # a URL has one type at a time
    found = {path_of(f"https://www.example.org/{name}", kind) for name, kind in kinds.items()}
    assert len(found) == len(kinds)
