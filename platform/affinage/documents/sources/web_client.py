"""HTTP to one host, at an address that was checked before anything was sent to it.

The name is resolved once and the connection goes to that address, so that a name which is pointed elsewhere meanwhile leads
nowhere. Redirects are followed on the same host only, and requests keep a distance in time.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3

from affinage import __version__
from affinage.documents.sources.egress import check_host, may_connect
from affinage.documents.sources.web_urls import canonical, origin_of
from affinage.errors import DependencyError

CONNECT_SECONDS, READ_SECONDS, RESPONSE_SECONDS = 10, 30, 120
# The last one is for a whole response: a server that sends a byte now and then keeps nobody.
MAX_REDIRECTS = 5
AGENT = "Affinage"
_PIECE_BYTES = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of `host`."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


@dataclass(frozen=True)
class Fetched:
    """An answer. `url` is where it came from in the end; `body` is None when it was not wanted or is longer than allowed."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """The one that the server names."""
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "charset":
                return value.strip("\"' ") or None
        return None


class SiteClient:
    """Asks the host of one URL, and no other.

    Parameters
    ----------
    url
        Where the site begins.
    egress_hosts
        What operators allow; see `egress`.
    delay_seconds
        Between the end of a request and the next.

    Raises
    ------
    ConfigurationError
        If the host is not one of `egress_hosts`.
    """

    def __init__(
        self,
        url: str,
        *,
        egress_hosts: Sequence[str],
        delay_seconds: float,
        resolve: Callable[[str, int], list[str]] = resolve_host,
        sleep: Callable[[float], None] = time.sleep,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        self._scheme, self._host, self._port = origin_of(url)
        check_host(self._host, egress_hosts)
        self._egress_hosts = egress_hosts
        self.delay_seconds = delay_seconds
        self._resolve = resolve
        self._sleep = sleep
        self._response_seconds = response_seconds
        self._address: str | None = None
        self._pools: dict[tuple[str, int], urllib3.HTTPConnectionPool] = {}
        self._asked_before = False

    def is_here(self, url: str) -> bool:
        """Whether `url` is on this site; a site may send to https what was asked over http."""
        scheme, host, port = origin_of(url)
        return host == self._host and ((scheme, port) in {(self._scheme, self._port), ("https", 443)})

    def get(self, url: str, *, max_bytes: int, wants_body: Callable[[Fetched], bool] = lambda _: True) -> Fetched | None:
        """What the server answers to a canonical URL, redirects followed; None when they lead away, or nowhere.

        Raises
        ------
        DependencyError
            If it does not answer, breaks off, or says that it cannot now (429 and 5xx).
        """
        for _ in range(MAX_REDIRECTS + 1):
            found = self._get(url, max_bytes, wants_body)
            if found.status not in _REDIRECTS:
                return found
            target = canonical(found.headers.get("location", ""), base=url)
            if target is None or not self.is_here(target):
                return None
            url = target
        return None

    def _get(self, url: str, max_bytes: int, wants_body: Callable[[Fetched], bool]) -> Fetched:
        if self._asked_before and self.delay_seconds:
            self._sleep(self.delay_seconds)
        self._asked_before = True
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc, "User-Agent": f"{AGENT}/{__version__}", "Accept-Encoding": "gzip, deflate"}
        try:
            response = self._pool(*origin_of(url)).request(
                "GET", target, headers=headers, preload_content=False, redirect=False, assert_same_host=False
            )
            try:
                return self._answer(url, response, max_bytes, wants_body)
            finally:
                # A body that was not wanted is not waited for.
                response.close()
        except urllib3.exceptions.HTTPError as error:
            hint = "Check that the site can be reached from here; what broke off is begun anew."
            raise DependencyError("web", f"{url} did not answer ({type(error).__name__}).", hint=hint) from error

    def _answer(self, url: str, response: urllib3.BaseHTTPResponse, max_bytes: int, wants_body: Callable[[Fetched], bool]) -> Fetched:
        if response.status == HTTPStatus.TOO_MANY_REQUESTS or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            hint = "Try again later, with a larger `delay_seconds`; leave out a page that is broken with `exclude`."
            raise DependencyError("web", f"{url} answered with status {response.status}.", hint=hint)
        found = Fetched(url, response.status, {name.lower(): value for name, value in response.headers.items()}, None)
        if found.status != HTTPStatus.OK or not wants_body(found):
            return found
        body = bytearray()
        until = time.monotonic() + self._response_seconds
        while piece := response.read1(_PIECE_BYTES):
            body += piece
            if len(body) > max_bytes:
                return found
            if time.monotonic() > until:
                raise DependencyError("web", f"{url} took longer than {self._response_seconds:g} s.", hint="Try again later.")
        return Fetched(found.url, found.status, found.headers, bytes(body))

    def _pool(self, scheme: str, _host: str, port: int) -> urllib3.HTTPConnectionPool:
        if (scheme, port) not in self._pools:
            address = self._checked_address()
            timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
            if scheme == "https":
                self._pools[scheme, port] = urllib3.HTTPSConnectionPool(
                    address,
                    port,
                    timeout=timeout,
                    retries=False,
                    cert_reqs="CERT_REQUIRED",
                    server_hostname=self._host,
                    assert_hostname=self._host,
                )
            else:
                self._pools[scheme, port] = urllib3.HTTPConnectionPool(address, port, timeout=timeout, retries=False)
        return self._pools[scheme, port]

    def _checked_address(self) -> str:
        if self._address is None:
            try:
                addresses = self._resolve(self._host, self._port)
            except OSError as error:
                raise DependencyError(
                    "web", f"The name {self._host} cannot be resolved.", hint="Check `url` and the name server."
                ) from error
            refused = [address for address in addresses if not may_connect(address, self._egress_hosts)]
            if refused or not addresses:
                raise DependencyError(
                    "web",
                    f"The host {self._host} is at {', '.join(refused) or 'no address'}, which a web site may not be.",
                    hint="If that is your own server, an operator adds its address to `egress_hosts`.",
                    retryable=False,
                )
            self._address = addresses[0]
        return self._address
