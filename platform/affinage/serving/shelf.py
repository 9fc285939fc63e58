"""Adapters that were sent to this pod: received, checked, given to the engine, and removed.

The pod has no credentials and fetches nothing; whoever loads an adapter sends its two files as a tar. They are checked
here again against the base that this pod holds, whatever the sender checked. Nothing of the archive decides a path.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affinage.engines.adapter_archive import MAX_ARCHIVE_BYTES, read_archive
from affinage.errors import ConflictError, DependencyError, RefusedError, UsageError
from affinage.registry.adapter_files import adapter_digest
from affinage.residency.verify import verify_adapter
from affinage.serving.inference import Inference
from affinage.serving.pool import Pool
from affinage.serving.responses import json_response, too_large

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}@[0-9a-f]{1,64}")


class Shelf:
    """The adapters of one pod.

    Parameters
    ----------
    load, unload
        Give an adapter's folder to the engine under its name, and take it away.
    base_shapes
        Shape of each weight of the base, by name.
    room
        Adapters that fit.
    """

    def __init__(
        self,
        *,
        load: Callable[[str, Path], None],
        unload: Callable[[str], None],
        base_shapes: Mapping[str, tuple[int, ...]],
        room: int,
    ) -> None:
        # Gone at the end of the process: what it received is no longer loaded then.
        self._temporary = tempfile.TemporaryDirectory(prefix="affinage-adapters-")
        self._folder = Path(self._temporary.name)
        self._load = load
        self._unload = unload
        self._base_shapes = base_shapes
        self._room = room
        self._digests: dict[str, str] = {}
        self._lock = threading.Lock()

    def digests(self) -> dict[str, str]:
        """Digest of each loaded adapter by name, sorted."""
        return dict(sorted(self._digests.copy().items()))

    def temporary(self) -> IO[bytes]:
        """A file for what is being received; gone when it is closed."""
        return tempfile.TemporaryFile(dir=self._folder)

    def put(self, name: str, archive: IO[bytes]) -> tuple[str, bool]:
        """Load the adapter in `archive`, a tar of its two files; its digest, and whether it is new here.

        The same files under the same name are a no-op.

        Raises
        ------
        UsageError
            If the name or the archive is not what it should be.
        RefusedError
            If the files are not sound, or not for this base.
        ConflictError
            If other files have this name, or there is no room.
        """
        check_name(name)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".receiving-") as temporary:
            received = Path(temporary) / "adapter"
            received.mkdir()
            read_archive(archive, received)
            digest = adapter_digest(received)
            with self._lock:
                if name in self._digests:
                    if self._digests[name] != digest:
                        raise ConflictError(f"Other files are loaded as `{name}`.", hint="A name belongs to its files for good.")
                    return digest, False
                if len(self._digests) >= self._room:
                    raise ConflictError(f"{self._room} adapters are loaded; there is no room.", hint="Unload one that nobody uses.")
                self._admit(name, received)
                self._digests[name] = digest
                return digest, True

    def _admit(self, name: str, received: Path) -> None:
        try:
            # Base digests are compared by the sender, who knows what the adapter was trained on.
            verify_adapter(received, base_digest=None, declared_base_digest=None, base_shapes=self._base_shapes)
        except RefusedError as error:
            raise RefusedError(f"The adapter `{name}` is refused. {' '.join(error.reasons)}", status=422) from error
        place = self._folder / name
        received.replace(place)
        try:
            self._load(name, place)
        except DependencyError as error:
            shutil.rmtree(place, ignore_errors=True)
            if error.retryable:
                raise
            raise RefusedError(f"The adapter `{name}` does not load on this base.", hint="Train it on this base.", status=422) from error
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def remove(self, name: str) -> None:
        """Unload `name` and remove its files; absent is fine."""
        check_name(name)
        with self._lock:
            if self._digests.pop(name, None) is not None:
                self._unload(name)
                shutil.rmtree(self._folder / name, ignore_errors=True)


def check_name(name: str) -> None:
    """Refuse what is no immutable adapter name, such as a path.

    Raises
    ------
    UsageError
        If it is not `assistant@digest`.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError("That is no name of an adapter.", hint="Adapters are named `assistant@digest8`.", param="name")


def adapter_routes(inference: Inference, *, shelf: Callable[[], Shelf], pool: Pool) -> list[Route]:
    """`PUT` and `DELETE /v1/adapters/{name}`; the shelf is there once the engine is ready."""

    async def put(request: Request) -> Response:
        name = request.path_params["name"]
        check_name(name)
        with shelf().temporary() as archive:
            size = 0
            async for part in request.stream():
                size += len(part)
                if size > MAX_ARCHIVE_BYTES:
                    raise too_large(MAX_ARCHIVE_BYTES)
                archive.write(part)
            digest, new = await pool.run(lambda: shelf().put(name, archive))
        inference.metrics.adapters.set(len(shelf().digests()))
        return json_response({"name": name, "digest": digest}, status=201 if new else 200)

    async def delete(request: Request) -> Response:
        name = request.path_params["name"]
        await pool.run(lambda: shelf().remove(name))
        inference.metrics.adapters.set(len(shelf().digests()))
        return json_response({"name": name})

    path = "/v1/adapters/{name}"
    return [inference.route(path, put, "PUT"), inference.route(path, delete, "DELETE")]


def models_response(facts: Mapping[str, Mapping[str, Any]]) -> Response:
    """The loaded models in OpenAI's shape, the base first, each with its facts under `affinage`; the base's also beside the list."""
    base = next(iter(facts))
    about: dict[str, Any] = {"base": base, **facts[base]}
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "affinage", "affinage": dict(of)} for name, of in facts.items()]
    return json_response({"object": "list", "data": data, "affinage": about})
