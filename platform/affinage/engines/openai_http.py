"""One HTTP server that speaks OpenAI's protocol: what is sent, what comes back, and the ways it fails.

Called by the endpoint, the pods and the vLLM engine. Follows no redirect, retries nothing, and never logs or quotes what was asked or
answered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any
from urllib.parse import urlsplit

import urllib3

from affinage.engines.protocols import Generation, GenerationRequest
from affinage.errors import ConfigurationError, DependencyError, UnknownObjectError

CONNECT_SECONDS = 5.0
READ_SECONDS = 120.0
"""Longest silence: a whole answer when it is not streamed."""
_HTTP_NOT_FOUND, _HTTP_BUSY, _HTTP_SERVER_ERROR, _HTTP_UNAVAILABLE = 404, 429, 500, 503


class UnavailableError(DependencyError):
    """Nobody answered, or the server said that it cannot answer now: another server may."""


def endpoint_address(url: str, *, egress_hosts: Collection[str]) -> tuple[str, str]:
    """The server's root and the fragment of an endpoint's address, `http(s)://host[:port]/v1#model`.

    Raises
    ------
    ConfigurationError
        If it is no such address, or its host is not one of `egress_hosts`.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise ConfigurationError(f"`{url}` is not the address of an endpoint.", hint="Write http(s)://host[:port]/v1#model.")
    if parts.hostname not in egress_hosts:
        raise ConfigurationError(
            f"The engine's host `{parts.hostname}` is not among the hosts that may be reached.",
            hint="An operator adds it to AFFINAGE_EGRESS_HOSTS.",
            host=parts.hostname,
        )
    return parts._replace(fragment="").geturl().rstrip("/"), parts.fragment


class OpenAIServer:
    """A server at `root`, the address up to `/v1`.

    Parameters
    ----------
    parallel
        Connections kept open.
    """

    def __init__(
        self, root: str, *, parallel: int, connect_seconds: float, read_seconds: float, headers: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self._headers = dict(headers or {})
        self._pool = urllib3.PoolManager(
            maxsize=parallel, timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds), retries=False
        )

    def models(self, *, read_seconds: float | None = None) -> list[dict[str, Any]]:
        """The models that the server lists; each has an `id`."""
        content = self.json("GET", "/models", read_seconds=read_seconds)
        try:
            return [{**model, "id": str(model["id"])} for model in content["data"]]
        except (KeyError, TypeError) as error:
            raise self.nonsense() from error

    def complete(self, request: GenerationRequest, *, model: str) -> Generation:
        """The whole answer of `model`.

        Raises
        ------
        UnknownObjectError
            If the server does not know the request's adapter.
        UnavailableError
            If another server may answer.
        DependencyError
            If the server is late, refuses or answers something else; retryable says whether to try again.
        """
        content = self.json("POST", "/chat/completions", _body(request, model), adapter=request.adapter)
        try:
            choice, usage = content["choices"][0], content.get("usage") or {}
            text = choice["message"]["content"] or ""
            finish = "length" if choice.get("finish_reason") == "length" else "stop"
            return Generation(text, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)), finish)  # type: ignore[arg-type]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise self.nonsense() from error

    def stream(self, request: GenerationRequest, *, model: str) -> Iterator[str]:
        """The answer of `model` in pieces; raises as `complete` does.

        An end of the connection before the server's end mark is an error too: never a silent end.
        """
        for content in self.events("/chat/completions", {**_body(request, model), "stream": True}, adapter=request.adapter):
            piece = _piece(content)
            if piece:
                yield piece

    def events(self, path: str, body: dict[str, Any], *, adapter: str | None = None) -> Iterator[dict[str, Any]]:
        """The objects of a streamed answer, up to the server's end mark; raises as `stream` does."""
        response = self.send("POST", path, body, adapter=adapter, preload=False)
        try:
            for line in _lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                yield _event(data)
        except urllib3.exceptions.HTTPError as error:
            raise self._broken(error) from error
        finally:
            response.close()
        raise UnavailableError("engine", f"The stream of `{self.root}` ended before its end mark.", hint="Ask again.")

    def json(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        adapter: str | None = None,
        read_seconds: float | None = None,
    ) -> Any:
        """What the server answers with status 200, parsed; raises as `complete` does."""
        response = self.send(method, path, body, adapter=adapter, read_seconds=read_seconds)
        try:
            content = json.loads(response.data)
        except ValueError as error:
            raise self.nonsense() from error
        if not isinstance(content, dict):
            raise self.nonsense()
        return content

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        adapter: str | None = None,
        preload: bool = True,
        read_seconds: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The response, when its status is 200; 404 says that the server does not know `adapter`."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": "application/json"}
        response = self._request(method, path, data, headers, preload=preload, read_seconds=read_seconds)
        if response.status == 200:
            return response
        response.close()
        if response.status == _HTTP_NOT_FOUND and adapter is not None:
            raise UnknownObjectError("loaded adapter", adapter, hint="Load it first; no other adapter answers in its place.")
        raise self._refusal(response.status, retry_after=response.headers.get("Retry-After"))

    def upload(self, path: str, file: IO[bytes], *, size_bytes: int) -> None:
        """Send a file; a refusal says what the server gave as its reason, for a file is nobody's question."""
        headers = {**self._headers, "Content-Type": "application/x-tar", "Content-Length": str(size_bytes)}
        response = self._request("PUT", path, file, headers)
        if response.status >= 300:
            raise self._refusal(response.status, reason=_reason(response.data))

    def nonsense(self) -> DependencyError:
        """The error for an answer that is not of the protocol."""
        return DependencyError("engine", f"`{self.root}` did not answer as an OpenAI-compatible server does.", retryable=False)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _request(
        self,
        method: str,
        path: str,
        data: bytes | IO[bytes] | None,
        headers: dict[str, str],
        *,
        preload: bool = True,
        read_seconds: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        options: dict[str, Any] = {} if read_seconds is None else {"timeout": read_seconds}
        try:
            return self._pool.request(
                method, self.root + path, body=data, headers=headers, preload_content=preload, redirect=False, **options
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._broken(error) from error

    def _broken(self, error: urllib3.exceptions.HTTPError) -> DependencyError:
        # A server that is late is at work: asking another one would double the work and the wait.
        kind = DependencyError if isinstance(error, urllib3.exceptions.ReadTimeoutError) else UnavailableError
        # The kind of failure only: the library's text may quote what was sent.
        return kind("engine", f"`{self.root}` did not answer ({type(error).__name__}).", hint="Check that the server runs.")

    def _refusal(self, status: int, *, reason: str = "", retry_after: str | None = None) -> DependencyError:
        again = status == _HTTP_BUSY or status >= _HTTP_SERVER_ERROR
        hint = "Try again later." if again else "Check the model's name and the length of the question."
        kind = UnavailableError if status == _HTTP_UNAVAILABLE else DependencyError
        message = f"`{self.root}` answered with status {status}{f': {reason}' if reason else '.'}"
        error = kind("engine", message, hint="" if reason else hint, retryable=again)
        error.fields |= {"status": status} | ({"retry_after": retry_after} if retry_after else {})
        return error


def _body(request: GenerationRequest, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": request.schema}}
    return body


def _reason(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])[:1000]
    except (ValueError, KeyError, TypeError):
        return ""


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for piece in response.stream(4096, decode_content=True):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _event(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise _no_objects() from error
    if not isinstance(content, dict):
        raise _no_objects()
    if "error" in content:
        raise DependencyError("engine", "The server reported an error in the middle of its answer.", hint="Ask again.")
    return content


def _piece(content: dict[str, Any]) -> str:
    try:
        choices = content.get("choices") or []
        return (choices[0].get("delta") or {}).get("content") or "" if choices else ""
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        raise _no_objects() from error


def _no_objects() -> DependencyError:
    return DependencyError("engine", "The server's stream is not made of JSON objects.", retryable=False)
