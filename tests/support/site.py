"""A web site on the loopback whose pages a test sets, and which notes what it is asked."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What one URL answers. `promised`: the length it claims; `before`: called when it is asked."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None
    before: Callable[[], None] = lambda: None


class Site:
    """A site; `pages` are answers by path and query, and all else is 404."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append((self.path, dict(self.headers)))
                answer = site.pages.get(self.path, Answer(b"nothing here", 404))
                answer.before()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) if answer.promised is None else answer.promised))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def page(self, path: str, body: str = "", *links: str, **headers: str) -> None:
        """An HTML page with links."""
        anchors = "".join(f'<a href="{link}">{link}</a>' for link in links)
        self.pages[path] = Answer(
            f"<html><body><p>{body}</p>{anchors}</body></html>".encode(), headers={"Content-Type": "text/html; charset=utf-8", **headers}
        )

    def file(self, path: str, body: bytes, content_type: str, **headers: str) -> None:
        """Anything else, with an ETag of its content unless told otherwise."""
        etag = headers or {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}
        self.pages[path] = Answer(body, headers={"Content-Type": content_type, **etag})

    @property
    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [path for path, _ in self.asked]

    def close(self) -> None:
        """Stop listening; again is fine."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
