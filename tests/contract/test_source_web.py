"""What only a site has: links, robots, sitemaps, redirects, addresses that are refused, and a crawl that breaks off."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from affinage.declarations.model import WebSpec
from affinage.documents.sources import Listed
from affinage.documents.sources.web import WebSource
from affinage.errors import ConfigurationError, DependencyError, DocumentError
from tests.support.site import Answer, Site


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def source(site: Site, path: str = "/", *, hosts: tuple[str, ...] = ("127.0.0.1",), **more: Any) -> WebSource:
    client = {name: more.pop(name) for name in ("resolve", "sleep") if name in more}
    url = more.pop("url", site.url + path)
    return WebSource(WebSpec(**{"name": "s", "kind": "web", "url": url, "delay_seconds": 0, **more}), egress_hosts=hosts, **client)


def paths(found: WebSource) -> list[str]:
    return [listed.path for listed in found.listing()]


def by_path(found: WebSource) -> dict[str, Listed]:
    return {listed.path: listed for listed in found.listing()}


# What belongs to the site


def test_pages_are_found_by_their_links_once_and_on_their_host_only(site: Site) -> None:
    site.page(
        "/", "start", "/a", "b/c?x=1", "#part", "http://example.org/elsewhere", "mailto:x@example.org", "//example.org/", "ftp://127.0.0.1/"
    )
    site.page("/a", "a", "/", "/a#top", "./b/../a", "/%61", "HTTP://127.0.0.1:" + site.url.rpartition(":")[2] + "/a")
    site.page("/b/c?x=1", "c", "../d.html")
    site.page("/d.html", "d")
    assert paths(source(site)) == ["a~.html", "b/c?x=1~.html", "d.html", "~.html"]
    assert site.paths == ["/robots.txt", "/sitemap.xml", "/", "/a", "/b/c?x=1", "/d.html"]


def test_a_path_leads_back_to_its_page_without_a_listing(site: Site) -> None:
    site.page("/", "start", "/cong%C3%A9s", "/a%2Fb", "/50%25", "/x~.html", "/a/", "/a.md")
    for path in ("/cong%C3%A9s", "/a%2Fb", "/50%25", "/x~.html", "/a/", "/a.md"):
        site.page(path, f"this is {path}")
    site.file("/a.md", b"this is /a.md", "text/markdown")
    found = paths(source(site))
    assert found == sorted(["~.html", "congés~.html", "a%2Fb~.html", "50%25~.html", "x~.html~.html", "a/~.html", "a.md"])
    reading = source(site)
    for path, url in zip(
        ["congés~.html", "a%2Fb~.html", "50%25~.html", "x~.html~.html", "a/~.html", "a.md"],
        ["/cong%C3%A9s", "/a%2Fb", "/50%25", "/x~.html", "/a/", "/a.md"],
        strict=True,
    ):
        assert f"this is {url}".encode() in reading.read(path)


@pytest.mark.parametrize(
    ("content_type", "path"),
    [
        ("application/pdf", "get?id=1~.pdf"),
        ("text/plain; charset=utf-8", "get?id=1~.txt"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "get?id=1~.docx"),
        ("image/png", "get?id=1~.bin"),
        ("application/octet-stream", "get?id=1~.bin"),
    ],
)
def test_the_content_type_tells_the_format_where_the_url_does_not(site: Site, content_type: str, path: str) -> None:
    site.page("/", "start", "/get?id=1")
    site.file("/get?id=1", b"data", content_type)
    assert paths(source(site)) == [path, "~.html"]
    assert source(site).read(path) == b"data"


def test_the_suffix_of_the_url_counts_when_it_agrees_or_the_server_does_not_know(site: Site) -> None:
    site.page("/", "start", "/a.pdf", "/b.docx", "/c.pdf")
    site.file("/a.pdf", b"data", "application/pdf")
    site.file("/b.docx", b"data", "application/octet-stream")
    site.page("/c.pdf", "an error page that is no PDF")
    assert paths(source(site)) == ["a.pdf", "b.docx", "c.pdf~.html", "~.html"]


def test_robots_are_obeyed_and_their_delay_is_kept(site: Site) -> None:
    waits: list[float] = []
    site.pages["/robots.txt"] = Answer(b"User-agent: other\nDisallow: /\n\nUser-agent: *\nDisallow: /private\nCrawl-delay: 7\n")
    site.page("/", "start", "/private/a", "/public")
    site.page("/public", "text", "/private/b")
    site.page("/private/a", "secret")
    assert paths(source(site, delay_seconds=2, sleep=waits.append)) == ["public~.html", "~.html"]
    assert waits == [7.0] * 3, "before the sitemap and both pages"
    assert not [path for path in site.paths if path.startswith("/private")]


@pytest.mark.parametrize("status", [401, 403])
def test_a_site_whose_robots_are_closed_to_us_is_closed_to_us(site: Site, status: int) -> None:
    site.pages["/robots.txt"] = Answer(b"", status)
    site.page("/", "start")
    with pytest.raises(DependencyError, match=r"robots\.txt"):
        paths(source(site))
    assert site.paths == ["/robots.txt"]


def test_pages_say_by_themselves_what_they_want_of_robots(site: Site) -> None:
    site.page("/", '</p><meta name="robots" content="noindex">', "/silent", "/copy", "/end")
    site.page("/silent", '</p><meta name="ROBOTS" content="NoFollow">', "/hidden")
    site.page("/copy", '</p><link rel="canonical" href="/original">', "/from-the-copy")
    site.page("/original", "original")
    site.page("/from-the-copy", "x")
    site.page("/end", '</p><a rel="nofollow" href="/hidden">x</a>')
    site.page("/hidden", "x")
    assert paths(source(site)) == ["end~.html", "from-the-copy~.html", "original~.html", "silent~.html"]


def test_sitemaps_name_pages_that_nothing_links_to(site: Site) -> None:
    site.pages["/robots.txt"] = Answer(f"Sitemap: {site.url}/maps.xml\nSitemap: http://example.org/other.xml\n".encode())
    index = f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap><loc>{site.url}/one.xml.gz</loc></sitemap></sitemapindex>'
    one = f"<urlset><url><loc> {site.url}/lonely </loc></url><url><loc>http://example.org/x</loc></url></urlset>"
    site.pages["/maps.xml"] = Answer(index.encode())
    site.pages["/one.xml.gz"] = Answer(gzip.compress(one.encode(), mtime=0))
    site.page("/", "start")
    site.page("/lonely", "lonely")
    assert paths(source(site)) == ["lonely~.html", "~.html"]
    assert paths(source(site, max_depth=0)) == ["~.html"]


@pytest.mark.parametrize(
    "sitemap",
    [b"<urlset><url>", b"no xml", gzip.compress(b"x" * 1000, mtime=0)[:-9],
     b'<!DOCTYPE u [<!ENTITY a "aaaaaaaaaa">' + b"".join(b'<!ENTITY b%d "%s">' % (n, b"&a;" * 10) for n in range(3)) + b"]><urlset>&"],
)  # fmt: skip
def test_a_sitemap_that_cannot_be_read_fails_the_listing(site: Site, sitemap: bytes) -> None:
    site.page("/", "start")
    site.pages["/sitemap.xml"] = Answer(sitemap)
    with pytest.raises(DependencyError, match="sitemap"):
        paths(source(site))


def test_no_entity_of_a_sitemap_is_expanded(site: Site) -> None:
    site.page("/", "start")
    site.page("/root", "x")
    entity = f'<!DOCTYPE u [<!ENTITY e SYSTEM "file:///etc/hostname"><!ENTITY f "{site.url}/root">]>'
    site.pages["/sitemap.xml"] = Answer(f"{entity}<urlset><url><loc>&e;</loc></url><url><loc>&f;</loc></url></urlset>".encode())
    assert paths(source(site)) == ["~.html"]


def test_depth_ends_a_walk_and_exclude_leaves_parts_out(site: Site) -> None:
    site.page("/", "start", "/1", "/search?q=a")
    site.page("/1", "one", "/2")
    site.page("/2", "two", "/3")
    site.page("/3", "three")
    site.page("/search?q=a", "x", "/search?q=b")
    assert paths(source(site, max_depth=2, exclude=("search**",))) == ["1~.html", "2~.html", "~.html"]


@pytest.mark.parametrize("status", [404, 410, 403, 400])
def test_a_dead_link_is_no_document_and_no_failure(site: Site, status: int) -> None:
    site.page("/", "start", "/gone")
    site.pages["/gone"] = Answer(b"", status)
    assert paths(source(site)) == ["~.html"]


# A crawl that is not complete


@pytest.mark.parametrize("broken", [Answer(b"", 500), Answer(b"", 503), Answer(b"", 429), Answer(b"<html>", promised=100)])
@pytest.mark.parametrize("where", ["/robots.txt", "/sitemap.xml", "/deep"])
def test_what_breaks_off_anywhere_fails_the_whole_listing(site: Site, where: str, broken: Answer) -> None:
    site.page("/", "start", "/a")
    site.page("/a", "a", "/deep")
    site.pages[where] = Answer(broken.body, broken.status, {"Content-Type": "text/html"}, broken.promised)
    with pytest.raises(DependencyError) as failed:
        paths(source(site))
    assert (failed.value.retryable, bool(failed.value.hint)) == (True, True)


def test_a_site_that_is_larger_than_declared_is_not_cut(site: Site) -> None:
    site.page("/", "start", *(f"/{number}" for number in range(4)))
    for number in range(4):
        site.page(f"/{number}", "x")
    assert len(paths(source(site, max_pages=5))) == 5
    with pytest.raises(DependencyError, match="more than 4 pages") as failed:
        paths(source(site, max_pages=4))
    assert "exclude" in failed.value.hint


def test_a_site_that_never_ends_is_left(site: Site) -> None:
    class Endless(dict[str, Answer]):
        def get(self, path: str, default: Any = None) -> Answer:
            link = f'<a href="{path.rstrip("/")}/more">x</a>'.encode()
            return default if path.endswith((".txt", ".xml")) else Answer(link, headers={"Content-Type": "text/html"})

    site.pages = Endless()
    with pytest.raises(DependencyError, match="more than 10 pages"):
        paths(source(site, max_pages=10, max_depth=1000))
    assert len(paths(source(site, max_pages=10, max_depth=3))) == 4


@pytest.mark.parametrize("status", [404, 403])
def test_a_start_that_is_gone_is_no_empty_site(site: Site, status: int) -> None:
    site.pages["/"] = Answer(b"", status)
    with pytest.raises(DependencyError, match="starts with"):
        paths(source(site))


def test_a_page_too_large_for_its_links_fails_the_listing_and_a_file_does_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinage.documents.sources.web.MAX_BYTES", 1000)
    site.page("/", "start", "/large.pdf")
    site.file("/large.pdf", b"x" * 2000, "application/pdf", Date="x")  # with nothing that tells whether it changed
    found = source(site)
    assert paths(found) == ["large.pdf", "~.html"]
    with pytest.raises(DocumentError) as failed:
        found.read("large.pdf")
    assert failed.value.reason == "too_large"
    site.page("/", "start", "/page")
    site.page("/page", "x" * 2000)
    with pytest.raises(DependencyError, match="too large"):
        paths(source(site))


def test_a_server_that_drips_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 100))
    monkeypatch.setattr("affinage.documents.sources.web_client.time.monotonic", lambda: float(next(ticks)))
    site.page("/", "x" * 500_000)
    with pytest.raises(DependencyError, match="took longer"):
        paths(source(site))


# Signatures


def test_of_a_file_the_server_is_believed_and_of_a_page_its_content(site: Site) -> None:
    site.page("/", "start", "/a.pdf", "/b.pdf", "/c.pdf", ETag='"same"')
    site.file("/a.pdf", b"one", "application/pdf", ETag='"1"')
    site.file("/b.pdf", b"one", "application/pdf", **{"Last-Modified": "Sun, 01 Mar 2026 10:00:00 GMT"})
    site.file("/c.pdf", b"one", "application/pdf", Server="x")
    before = {path: listed.signature.as_json() for path, listed in by_path(source(site)).items()}
    assert before["a.pdf"] == {"etag": '"1"', "length": "3"}
    assert before["b.pdf"] == {"last_modified": "Sun, 01 Mar 2026 10:00:00 GMT", "length": "3"}
    assert set(before["c.pdf"]) == set(before["~.html"]) == {"digest"}
    site.page("/", "changed", "/a.pdf", "/b.pdf", "/c.pdf", ETag='"same"')
    site.file("/c.pdf", b"two", "application/pdf", Server="x")
    after = {path: listed.signature.as_json() for path, listed in by_path(source(site)).items()}
    assert {path for path in before if before[path] != after[path]} == {"~.html", "c.pdf"}


@pytest.mark.parametrize(
    ("headers", "settled"),
    [
        ({"ETag": '"1"'}, True),
        ({"ETag": 'W/"1"'}, False),
        ({"Last-Modified": "Sun, 01 Mar 2026 10:00:00 GMT"}, True),
        ({"Last-Modified": "Sun, 01 Mar 2026 11:59:59 GMT"}, False),
        ({"Last-Modified": "yesterday"}, False),
        ({"Last-Modified": "Sun, 01 Mar 2026 10:00:00 GMT", "ETag": 'W/"1"'}, True),
    ],
)
def test_a_date_is_trusted_once_the_servers_clock_has_gone_on(
    site: Site, headers: dict[str, str], settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda *_: "Sun, 01 Mar 2026 12:00:00 GMT")
    site.page("/", "start", "/a.pdf")
    site.file("/a.pdf", b"one", "application/pdf", **headers)
    assert by_path(source(site))["a.pdf"].signature.is_settled(0) is settled


# Redirects and addresses


def test_a_redirect_is_followed_on_the_same_host_and_the_page_is_listed_once(site: Site) -> None:
    site.page("/", "start", "/old", "/away", "/loop", "/to-private")
    site.pages["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /private\n")
    site.pages["/old"] = Answer(status=301, headers={"Location": "/new"})
    site.pages["/away"] = Answer(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data"})
    site.pages["/loop"] = Answer(status=302, headers={"Location": "/loop"})
    site.pages["/to-private"] = Answer(status=302, headers={"Location": "/private"})
    site.page("/new", "new", "/old")
    site.page("/private", "x")
    assert paths(source(site)) == ["new~.html", "~.html"]
    assert site.paths.count("/loop") == 6, "one question and five redirects"


def test_a_page_that_moved_after_the_listing_is_not_read_under_its_old_name(site: Site) -> None:
    site.page("/", "start", "/a")
    site.page("/a", "a")
    found = source(site)
    assert "a~.html" in paths(found)
    site.pages["/a"] = Answer(status=301, headers={"Location": "/b"})
    site.page("/b", "b")
    with pytest.raises(DocumentError, match="moved"):
        found.read("a~.html")
    site.pages["/a"] = Answer(status=301, headers={"Location": "http://example.org/"})
    with pytest.raises(DocumentError, match="another site"):
        found.read("a~.html")


def test_a_host_that_operators_do_not_name_is_never_asked(site: Site) -> None:
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1"):
        source(site, hosts=("example.org",))
    assert site.asked == []


ADDRESSES = [
    "127.0.0.1", "10.0.0.5", "192.168.1.1", "172.16.0.1", "::1", "fc00::1", "::ffff:10.0.0.5", "2002:0a00:0005::1", "0.0.0.0",
    "169.254.169.254", "fe80::1%eth0", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "224.0.0.1", "64:ff9b::a00:5",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(site: Site, address: str) -> None:
    found = source(
        site,
        url=site.url.replace("127.0.0.1", "www.example.org"),
        hosts=("www.example.org",),
        resolve=lambda *_: ["93.184.216.34", address],
    )
    with pytest.raises(DependencyError, match="may not be") as failed:
        paths(found)
    assert not failed.value.retryable
    assert site.asked == []


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8"])
def test_an_operator_may_name_an_address_inside(site: Site, allowed: str) -> None:
    site.page("/", "start")
    url = site.url.replace("127.0.0.1", "intranet.example.org")
    found = source(site, url=url, hosts=("intranet.example.org", allowed), resolve=lambda *_: ["127.0.0.1"])
    assert paths(found) == ["~.html"]
    assert site.asked[0][1]["Host"] == url.removeprefix("http://")


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16"])
def test_an_address_that_gives_credentials_is_refused_even_when_it_is_named(site: Site, address: str) -> None:
    found = source(site, url="http://www.example.org/", hosts=("www.example.org", address), resolve=lambda *_: [address])
    with pytest.raises(DependencyError, match="may not be"):
        paths(found)


def certificate(folder: Path, name: str) -> Path:
    """A file with a key and a certificate for `name`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / f"{name}.pem"
    file.write_bytes(secret + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(
    ("shown", "trusted", "answers"),
    [("www.example.org", True, True), ("www.example.org", False, False), ("other.example.org", True, False)],
)
def test_over_https_the_certificate_must_be_trusted_and_bear_the_name_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, trusted: bool, answers: bool
) -> None:
    file = certificate(tmp_path, shown)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file if trusted else certificate(tmp_path, "unknown.example.org")))
    site = Site(tls=context)
    site.page("/", "start")
    url = site.url.replace("127.0.0.1", "www.example.org")
    found = source(site, url=url, hosts=("www.example.org", "127.0.0.1"), resolve=lambda *_: ["127.0.0.1"])
    if answers:
        assert paths(found) == ["~.html"]
    else:
        with pytest.raises(DependencyError, match="SSLError"):
            paths(found)
        assert site.asked == []
    site.close()


def test_a_name_that_is_pointed_elsewhere_meanwhile_leads_nowhere_else(site: Site) -> None:
    answers: Iterator[str] = iter(["127.0.0.1", "169.254.169.254", "10.0.0.1"])
    site.page("/", "start", "/a")
    site.page("/a", "a")
    resolve: Callable[[str, int], list[str]] = lambda *_: [next(answers)]  # noqa: E731
    url = site.url.replace("127.0.0.1", "www.example.org")
    found = source(site, url=url, hosts=("www.example.org", "127.0.0.1"), resolve=resolve)
    assert paths(found) == ["a~.html", "~.html"]
    assert b"start" in found.read("~.html")
    assert next(answers) == "169.254.169.254", "it was resolved once"


@pytest.mark.parametrize("url", ["ftp://example.org/", "http://me:secret@example.org/", "example.org", "http:///x"])
def test_an_address_that_is_no_site_is_refused_where_it_is_declared(url: str) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as failed:
        WebSpec(name="s", kind="web", url=url)
    assert "secret" not in failed.value.errors()[0]["msg"]
