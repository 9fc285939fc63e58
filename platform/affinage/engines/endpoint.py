"""A generator behind an OpenAI-compatible HTTP endpoint, vLLM for one.

Called by wiring for engines that are URLs. Goes only to declared hosts, follows no redirect, retries nothing, and never logs
or quotes what was asked or answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from affinage.engines.openai_http import CONNECT_SECONDS, READ_SECONDS, OpenAIServer, endpoint_address
from affinage.engines.protocols import Generation, GenerationRequest
from affinage.errors import DependencyError

_PARALLEL = 8  # requests under way at once; the server batches them


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
        root, self._fragment = endpoint_address(url, egress_hosts=egress_hosts)
        self._base = url
        self._listed: str | None = None
        self._server = OpenAIServer(
            root,
            parallel=_PARALLEL,
            connect_seconds=connect_seconds,
            read_seconds=read_seconds,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
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
        yield from self._server.stream(request, model=request.adapter or self._model())

    def load_adapter(self, name: str, folder: Path) -> None:
        """Ask the server to load the folder, which must be on a disk it can read (vLLM's `/load_lora_adapter`)."""
        if name not in self.adapters():
            self._server.send("POST", "/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def unload_adapter(self, name: str) -> None:
        """Forget `name`; absent is fine."""
        if name in self.adapters():
            self._server.send("POST", "/unload_lora_adapter", {"lora_name": name})

    def adapters(self) -> list[str]:
        """Names of the models that the server lists besides the base, sorted."""
        return sorted(set(self._models()) - {self._model()})

    def _one(self, request: GenerationRequest) -> Generation:
        return self._server.complete(request, model=request.adapter or self._model())

    def _model(self) -> str:
        if self._fragment:
            return self._fragment
        if self._listed is None:
            models = self._models()
            if not models:
                root = self._server.root
                raise DependencyError("engine", f"`{root}` lists no model.", hint="Name it: http://host/v1#model.", retryable=False)
            self._listed = models[0]
        return self._listed

    def _models(self) -> list[str]:
        return [model["id"] for model in self._server.models()]
