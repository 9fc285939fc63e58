"""A generator behind an OpenAI-compatible HTTP endpoint, vLLM for one.

Called by wiring for engines that are URLs. Goes only to declared hosts, follows no redirect, retries nothing, and never logs
or quotes what was asked or answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3

from affinage.engines.protocols import Generation, GenerationRequest
from affinage.errors import ConfigurationError, DependencyError, UnknownObjectError

CONNECT_SECONDS = 5.0
READ_SECONDS = 120.0
"""Longest silence: a whole answer when it is not streamed."""
_PARALLEL = 8  # requests under way at once; the server batches them
_HTTP_NOT_FOUND, _HTTP_BUSY, _HTTP_SERVER_ERROR = 404, 429, 500


class Endpoint:
    """Chat completions of one server.

    Parameters
    ----------
    url
        Its address up to `/v1`, with the base's model name as fragment: `http://vllm:8000/v1#base`. Without a fragment
        the first model that the server lists is the base.
    egress_hosts
        Hosts that may be reached.
    api_key
        Sent as bearer token when given.

    Raises
    ------
    ConfigurationError
        If the URL's host is not one of `egress_hosts`.
    """

    def __init__(
        self,
        url: str,
        *,
        egress_hosts: Sequence[str],
        api_key: str | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ConfigurationError(f"`{url}` is not the address of an endpoint.", hint="Write http(s)://host[:port]/v1#model.")
        if parts.hostname not in egress_hosts:
            raise ConfigurationError(
                f"The engine's host `{parts.hostname}` is not among the hosts that may be reached.",
                hint="An operator adds it to AFFINAGE_EGRESS_HOSTS.",
                host=parts.hostname,
            )
        self._base = url
        self._root = parts._replace(fragment="").geturl().rstrip("/")
        self._fragment = parts.fragment
        self._listed: str | None = None
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        self._pool = urllib3.PoolManager(
            maxsize=_PARALLEL, timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds), retries=False
        )

    @property
    def base(self) -> str:
        """The engine's URL, as declared."""
        return self._base

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Answers in the order of `requests`, eight at a time.

        Raises
        ------
        UnknownObjectError
            If the server does not know the adapter.
        DependencyError
            If the server cannot be reached, is late, refuses or answers something else; retryable says whether to try again.
        """
        if len(requests) == 1:
            return [self._one(requests[0])]
        with ThreadPoolExecutor(max_workers=_PARALLEL) as threads:
            return list(threads.map(self._one, requests))

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        """The answer in pieces.

        Raises
        ------
        DependencyError
            Also after the first pieces, when the connection ends before the server's end mark: never a silent end.
        """
        response = self._post("/chat/completions", {**self._body(request), "stream": True}, request, preload=False)
        try:
            for line in _lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                piece = _piece(data)
                if piece:
                    yield piece
        except urllib3.exceptions.HTTPError as error:
            raise self._broken(error) from error
        finally:
            response.close()
        raise DependencyError("engine", f"The stream of `{self._root}` ended before its end mark.", hint="Ask again.")

    def load_adapter(self, name: str, folder: Path) -> None:
        """Ask the server to load the folder, which must be on a disk it can read (vLLM's `/load_lora_adapter`)."""
        if name not in self.adapters():
            self._post("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, None)

    def unload_adapter(self, name: str) -> None:
        """Forget `name`; absent is fine."""
        if name in self.adapters():
            self._post("/unload_lora_adapter", {"lora_name": name}, None)

    def adapters(self) -> list[str]:
        """Names of the models that the server lists besides the base, sorted."""
        return sorted(set(self._models()) - {self._model()})

    def _one(self, request: GenerationRequest) -> Generation:
        response = self._post("/chat/completions", self._body(request), request)
        try:
            content = json.loads(response.data)
            choice, usage = content["choices"][0], content.get("usage") or {}
            text = choice["message"]["content"] or ""
            finish = "length" if choice.get("finish_reason") == "length" else "stop"
            return Generation(text, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)), finish)  # type: ignore[arg-type]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._nonsense() from error

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.adapter or self._model(),
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
        }
        if request.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": request.schema}}
        return body

    def _model(self) -> str:
        if self._fragment:
            return self._fragment
        if self._listed is None:
            models = self._models()
            if not models:
                raise DependencyError("engine", f"`{self._root}` lists no model.", hint="Name it: http://host/v1#model.", retryable=False)
            self._listed = models[0]
        return self._listed

    def _models(self) -> list[str]:
        response = self._send("GET", "/models", None)
        if response.status != 200:
            raise self._refusal(response.status)
        try:
            return [str(model["id"]) for model in json.loads(response.data)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise self._nonsense() from error

    def _post(
        self, path: str, body: dict[str, Any], request: GenerationRequest | None, *, preload: bool = True
    ) -> urllib3.BaseHTTPResponse:
        response = self._send("POST", path, body, preload=preload)
        if response.status == 200:
            return response
        response.close()
        if response.status == _HTTP_NOT_FOUND and request is not None and request.adapter is not None:
            raise UnknownObjectError("loaded adapter", request.adapter, hint="Load it first; no other adapter answers in its place.")
        raise self._refusal(response.status)

    def _send(self, method: str, path: str, body: dict[str, Any] | None, *, preload: bool = True) -> urllib3.BaseHTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        try:
            return self._pool.request(method, self._root + path, body=data, headers=self._headers, preload_content=preload, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> DependencyError:
        # The kind of failure only: the library's text may quote what was sent.
        return DependencyError("engine", f"`{self._root}` did not answer ({type(error).__name__}).", hint="Check that the server runs.")

    def _refusal(self, status: int) -> DependencyError:
        again = status == _HTTP_BUSY or status >= _HTTP_SERVER_ERROR
        hint = "Try again later." if again else "Check the model's name and the length of the question."
        return DependencyError("engine", f"`{self._root}` answered with status {status}.", hint=hint, retryable=again)

    def _nonsense(self) -> DependencyError:
        return DependencyError("engine", f"`{self._root}` did not answer as an OpenAI-compatible server does.", retryable=False)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for piece in response.stream(4096, decode_content=True):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _piece(data: bytes) -> str:
    try:
        content = json.loads(data)
        if "error" in content:
            raise DependencyError("engine", "The server reported an error in the middle of its answer.", hint="Ask again.")
        choices = content.get("choices") or []
        return (choices[0].get("delta") or {}).get("content") or "" if choices else ""
    except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise DependencyError("engine", "The server's stream is not made of JSON objects.", retryable=False) from error
