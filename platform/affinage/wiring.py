"""The composition root: settings in, ready clients out. The only builder of clients.

Everything is built at first use, and heavy libraries are imported then, so that a light verb starts in a second. Time,
ids and randomness are made here and passed in.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affinage.blobs import BlobStore, FolderBlobs
from affinage.database.engine import Database
from affinage.engines.extractive import Excerpt
from affinage.engines.protocols import Embedder, Generator
from affinage.errors import ConfigurationError, RefusedError
from affinage.processes import give_back_memory
from affinage.settings import Settings
from affinage.telemetry import Metrics

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.applications import Starlette

    from affinage.answers.prompts import PromptArchive
    from affinage.answers.variant import Variant
    from affinage.index.cache import VectorCache
    from affinage.index.clients import IndexClients
    from affinage.index.generations import BuildReport, SwitchReport
    from affinage.index.reports import SyncReport
    from affinage.index.search import Searcher
    from affinage.index.stores.protocol import VectorStore
    from affinage.registry.bases import Base
    from affinage.registry.mlflow import MlflowRegistry
    from affinage.registry.moves import Move
    from affinage.registry.variants import AdapterTask, StoredVariant
    from affinage.serving.answering import Answering
    from affinage.serving.sessions import Sessions
    from affinage.tuning.evaluate import Evaluation
    from affinage.tuning.run import TrainedAdapter

# No library may call home: for users as well as for tests.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def random_id() -> str:
    """128 unguessable bits as 32 hexadecimal digits."""
    return uuid.uuid4().hex


class Affinage:
    """One installation: its settings and its clients.

    Parameters
    ----------
    settings
        Where state lives and what may be reached.
    now, new_id
        Replaced in tests.
    """

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now, new_id: Callable[[], str] = random_id) -> None:
        self.settings = settings
        self.now = now
        self.new_id = new_id
        self._embedders: dict[tuple[str, str | None], Embedder] = {}
        self._generators: dict[str, Generator] = {}
        self._building = threading.RLock()
        self._base_digests: dict[str, str] = {}
        self._packaged_bases: dict[str, Base] = {}
        self._replies: dict[tuple[str | int | None, ...], list[str]] = {}
        for key, value in QUIET.items():
            os.environ.setdefault(key, value)

    @cached_property
    def database(self) -> Database:
        """The record of truth, at the newest schema."""
        url = self.settings.database_url
        database = Database(url.get_secret_value() if url else f"sqlite:///{self.settings.home / 'affinage.db'}")
        database.migrate()
        return database

    @cached_property
    def blobs(self) -> BlobStore:
        """Immutable files."""
        return FolderBlobs(self.settings.home / "blobs")

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of this process."""
        return Metrics()

    @property
    def threads(self) -> int:
        """Threads of one model session."""
        return self.settings.threads or len(os.sched_getaffinity(0))

    @property
    def state(self) -> Path:
        """Folder of the embedded installation."""
        return self.settings.home

    @property
    def flows(self) -> Path:
        """Folder of the Prefect flows: as set, else beside `platform/` in the checkout of an editable install."""
        return self.settings.flows or Path(__file__).resolve().parents[2] / "flows"

    def embedder(self, spec: Mapping[str, Any] | None = None) -> Embedder:
        """The embedder that `spec` names, one for each spec in this process.

        Parameters
        ----------
        spec
            As stored with a generation: `name`, and the name of an adapter or null under `adapter`; `folder` says where
            its PEFT files lie, else they are fetched from the registry. None: the packaged embedder as it comes.
        """
        from affinage.engines.minilm import NAME, MiniLM

        spec = spec or {"name": NAME}
        name, adapter, folder = str(spec.get("name", NAME)), spec.get("adapter"), spec.get("folder")
        if name != NAME:
            raise ConfigurationError(f"There is no embedder `{name}`.", hint=f"The embedder of a source is `{NAME}`.")
        if adapter and not folder:
            folder = self._countersigned_folder(str(adapter))
        key = (name, str(folder) if adapter else None)
        with self._building:
            if key not in self._embedders:
                self._embedders[key] = MiniLM(self.settings.cache, threads=self.threads, adapter=Path(str(folder)) if adapter else None)
            return self._embedders[key]

    def generator(self, engine: str, *, folder: Path | None = None) -> Generator:
        """The generator that `engine` names, one for each name in this process.

        Parameters
        ----------
        engine
            `package:smollm2`, the http(s) URL of an OpenAI-compatible endpoint, or the name of a registered base.
        folder
            Where the files of a registered base lie; the caller looked it up.
        """
        # A gateway warms its engines while it already answers: neither may build a second one.
        with self._building:
            if engine not in self._generators:
                self._generators[engine] = self._make_generator(engine, folder)
            return self._generators[engine]

    def _make_generator(self, engine: str, folder: Path | None) -> Generator:
        from affinage.engines import smollm2
        from affinage.engines.endpoint import Endpoint
        from affinage.engines.transformers import TransformersGenerator

        if engine.startswith(("http://", "https://")):
            return Endpoint(engine, egress_hosts=self.settings.egress_hosts)
        if engine == smollm2.NAME:
            folder = smollm2.unpack(self.settings.cache)
        if folder is None:
            raise ConfigurationError(
                f"There is no engine `{engine}`.",
                hint=f"Use `extractive`, `{smollm2.NAME}`, a base of `affinage base list`, or an http(s) endpoint.",
            )
        return TransformersGenerator(folder, base=engine, threads=self.threads)

    def base_digest(self, engine: str) -> str | None:
        """Digest of the weights behind `engine`; None for an engine without weights of ours."""
        from affinage.answers.answer import EXTRACTIVE
        from affinage.engines import smollm2
        from affinage.engines.digest import base_digest

        if engine == EXTRACTIVE or engine.startswith(("http://", "https://")):
            return None
        if engine not in self._base_digests:
            folder = smollm2.unpack(self.settings.cache) if engine == smollm2.NAME else self._base_folder(engine)
            self._base_digests[engine] = base_digest(folder)
        return self._base_digests[engine]

    def _base_folder(self, engine: str) -> Path:
        from affinage.registry.bases import get_base

        with self.database.read() as connection:
            return Path(get_base(connection, engine).path)

    @cached_property
    def store(self) -> VectorStore:
        """The vectors that are searched."""
        from affinage.index.stores.lancedb import LanceStore

        return LanceStore(self.settings.home / "vectors")

    @cached_property
    def cache(self) -> VectorCache:
        """Vectors by text; safe to lose."""
        from affinage.index.cache import VectorCache

        return VectorCache(self.settings.home / "vector-cache.db")

    @cached_property
    def searcher(self) -> Searcher:
        """Search under rights."""
        from affinage.index.search import Searcher

        return Searcher(self.database, self.store, self.embedder)

    def index_clients(self, *, progress: Callable[[str], None] = lambda _: None) -> IndexClients:
        """What the operations of `index` work with; `progress` gets a line now and then."""
        from affinage.index.clients import IndexClients

        return IndexClients(
            database=self.database,
            store=self.store,
            cache=self.cache,
            blobs=self.blobs,
            embedder_of=self.embedder,
            now=self.now,
            new_id=self.new_id,
            source_roots=self.settings.source_roots,
            metrics=self.metrics,
            progress=progress,
        )

    def sync(
        self, *sources: str, dry_run: bool = False, confirm_deletes: bool = False, progress: Callable[[str], None] = lambda _: None
    ) -> SyncReport:
        """Index what changed in the named sources, or in all, and sum up."""
        from affinage.index.sources import sync_sources

        return sync_sources(self.index_clients(progress=progress), sources, dry_run=dry_run, confirm_deletes=confirm_deletes)

    def build_generation(
        self, source: str, *, embedder: Mapping[str, Any] | None = None, progress: Callable[[str], None] = lambda _: None
    ) -> BuildReport:
        """Build and check a generation of `source` beside the one that serves; default: with the declared embedder."""
        from affinage.index.generations import build_generation

        return build_generation(self.index_clients(progress=progress), source, embedder=embedder)

    def switch_generation(self, source: str, *, generation_id: str | None = None) -> SwitchReport:
        """Make a built generation of `source` serve."""
        from affinage.index.generations import switch

        return switch(self.index_clients(), source, generation_id=generation_id)

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

    def load_adapter(self, generator: Generator, variant: Variant) -> None:
        """Bring the variant's adapter onto `generator`, verified, countersigned and proved; quick when it is there."""
        if variant.adapter is None or variant.adapter in generator.adapters():
            return
        from affinage.registry.variants import stored_variant
        from affinage.residency.load import make_ready

        with self.database.read() as connection:
            stored = stored_variant(connection, variant.variant_id)
        try:
            ready = make_ready(
                database=self.database,
                blobs=self.blobs,
                registry=self.registry,
                generator=generator,
                stored=stored,
                adapters=self.settings.home / "adapters",
                base=self._base_of(stored),
                now=self.now,
            )
        except RefusedError:
            self.metrics.adapter_verify_failures.inc()
            raise
        self.metrics.adapter_load_seconds.observe(ready.seconds)
        self.metrics.adapter_ready.labels(adapter=ready.adapter).set(1)

    def train_adapter(
        self,
        assistant: str,
        *,
        dataset: str | None = None,
        recipe: str | None = None,
        resume: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> TrainedAdapter:
        """Train on a snapshot in a process of its own, and register the adapter."""
        from affinage.tuning.run import train_adapter

        return train_adapter(
            database=self.database,
            blobs=self.blobs,
            registry=self.registry,
            state=self.settings.home,
            base_of=self.base,
            assistant=assistant,
            dataset=dataset,
            recipe=recipe,
            resume=resume,
            progress=progress,
            now=self.now,
            new_id=self.new_id,
        )

    def evaluate_variant(self, variant_id: str, *, dataset: str | None = None) -> Evaluation:
        """Let the gate decide on a variant; what passed is countersigned, and MLflow's alias `candidate` names it."""
        import numpy as np

        from affinage.tuning.evaluate import Evaluators, evaluate_variant

        evaluation = evaluate_variant(
            database=self.database,
            blobs=self.blobs,
            evaluators=Evaluators(
                adapter_folder=self.verified_folder,
                generator=self._served_generator,
                embedder=lambda stored: self.embedder(self._embedder_spec(stored)),
                cache=self.cache,
                replies=self._replies,
            ),
            variant_id=variant_id,
            dataset_id=dataset,
            now=self.now,
            new_id=self.new_id,
            rng=np.random.default_rng(0),
        )
        self.follow_moves()
        return evaluation

    def _embedder_spec(self, stored: StoredVariant | None) -> dict[str, Any] | None:
        if stored is None:
            return None
        from affinage.engines import minilm

        return {"name": minilm.NAME, "adapter": stored.variant.adapter, "folder": self.verified_folder(stored)}

    def register_adapter(self, folder: Path, *, assistant: str) -> tuple[Variant, str]:
        """Register a PEFT folder that was trained elsewhere; returns the variant and its MLflow version."""
        from affinage.answers.answer import EXTRACTIVE
        from affinage.declarations.repository import get_assistant
        from affinage.engines import minilm
        from affinage.tuning.register import register_files

        with self.database.read() as connection:
            spec = get_assistant(connection, assistant)
        embedder = spec.engine == EXTRACTIVE
        variant, made = register_files(
            database=self.database,
            registry=self.registry,
            spec=spec,
            folder=folder,
            base=self.base(minilm.NAME if embedder else spec.engine),
            task="embedder" if embedder else "generator",
            now=self.now(),
        )
        return variant, made.version

    def verify_variant(self, variant_id: str) -> StoredVariant:
        """Fetch and check the files of a variant's adapter; a variant without one has nothing to check."""
        from affinage.registry.variants import stored_variant

        with self.database.read() as connection:
            stored = stored_variant(connection, variant_id)
        if stored.variant.adapter is not None:
            self.verified_folder(stored)
        return stored

    def take_in_candidates(self) -> list[StoredVariant]:
        """Variants whose alias `candidate` somebody set in MLflow since the last look; the gate comes next."""
        from affinage.answers.answer import EXTRACTIVE
        from affinage.declarations.repository import list_assistants
        from affinage.registry.follow import sync_aliases
        from affinage.tuning.register import current_variant

        with self.database.read() as connection:
            declared = list_assistants(connection)
        found = []
        for spec in declared:
            current = current_variant(self.database, spec, base_digest=None if spec.engine == EXTRACTIVE else self.base_digest(spec.engine))
            taken = sync_aliases(
                self.database,
                self.registry,
                organisation=spec.organisation,
                current=current,
                base_of=partial(self._base_for, spec.engine),
                now=self.now,
                new_id=self.new_id,
            )
            found += [taken] if taken is not None else []
        return found

    def release_variant(self, variant_id: str) -> StoredVariant:
        """The variant that can serve: an embedder's adapter gets index generations with its vectors first."""
        from affinage.index.generations import build_generation
        from affinage.tuning.release import release_variant

        return release_variant(
            database=self.database,
            registry=self.registry,
            variant_id=variant_id,
            folder_of=self.verified_folder,
            build=lambda source, embedder: build_generation(self.index_clients(), source, embedder=embedder).generation_id,
            now=self.now,
        )

    def promote_variant(self, variant_id: str, *, actor: str, reason: str) -> Move:
        """Make a variant serve by hand: recorded, verified, and followed by MLflow's alias."""
        from affinage.residency.promote import promote_by_hand

        move = promote_by_hand(
            database=self.database,
            variant_id=variant_id,
            verify=self.verified_folder,
            release=self.release_variant,
            actor=actor,
            reason=reason,
            now=self.now,
            new_id=self.new_id,
        )
        self.follow_moves()
        return move

    def follow_moves(self) -> int:
        """Bring MLflow's aliases to where our recorded moves put them."""
        from affinage.registry.follow import finish_moves

        return finish_moves(self.database, self.registry, now=self.now)

    @cached_property
    def prompts(self) -> PromptArchive:
        """Every prompt that a variant names."""
        from affinage.answers.prompts import PromptArchive

        return PromptArchive(self.blobs)

    @cached_property
    def answering(self) -> Answering:
        """Answers questions, for the command line and the demo."""
        return self._answering(commit=None)

    def _answering(self, commit: Callable[[Callable[[Connection], None]], None] | None) -> Answering:
        from affinage.serving.answering import Answering
        from affinage.serving.routing import DatabaseRouting

        return Answering(
            database=self.database,
            search_of=lambda: self.searcher,
            generator_of=self._served_generator,
            select=self._select,
            routing=DatabaseRouting(base_digest_of=self.base_digest),
            prompt_of=lambda spec, digest: self.prompts.get(digest, declared=spec.prompt),
            load_adapter=self.load_adapter,
            now=self.now,
            new_id=self.new_id,
            commit=commit,
        )

    @cached_property
    def _sentence_embedder(self) -> Embedder:
        from affinage.answers.vectors import RememberingEmbedder

        return RememberingEmbedder(self.embedder())

    def _select(self, question: str, excerpts: Sequence[Excerpt]) -> list[int]:
        from affinage.engines.extractive import select_sentences

        return select_sentences(question, excerpts, embedder=self._sentence_embedder)

    def _served_generator(self, engine: str) -> Generator:
        from affinage.engines import smollm2

        own = engine == smollm2.NAME or engine.startswith(("http://", "https://"))
        return self.generator(engine, folder=None if own else self._base_folder(engine))

    @cached_property
    def sessions(self) -> Sessions:
        """Console sessions of this process."""
        from affinage.serving.sessions import Sessions

        return Sessions(now=self.now)

    def gateway(self, *, console: bool = False) -> Starlette:
        """The HTTP application, with or without the console."""
        from affinage.console.pages import console_routes
        from affinage.serving.gateway import create_gateway
        from affinage.serving.parts import Parts
        from affinage.serving.writer import GroupWriter

        writer = GroupWriter(self.database)
        parts = Parts(
            database=self.database,
            blobs=self.blobs,
            answering=self._answering(commit=writer.commit),
            writer=writer,
            sessions=self.sessions,
            metrics=self.metrics,
            now=self.now,
            new_id=self.new_id,
        )
        return create_gateway(parts, pages=console_routes(parts) if console else [], warm=self._warm)

    def _warm(self) -> None:
        from affinage.answers.answer import EXTRACTIVE
        from affinage.declarations.repository import list_assistants
        from affinage.engines.protocols import GenerationRequest, Message

        with self.database.read() as connection:
            declared = list_assistants(connection)
        if any(spec.sources for spec in declared):
            self._select("ready", [Excerpt("ready")])
            _ = self.searcher
        for engine in sorted({spec.engine for spec in declared} - {EXTRACTIVE}):
            if not engine.startswith(("http://", "https://")):
                self._served_generator(engine).generate([GenerationRequest((Message("user", "ready"),), max_tokens=1)])

    def release_models(self) -> None:
        """Give back the memory of loaded models; they are loaded again when they are needed."""
        self._generators.clear()
        self._embedders.clear()
        give_back_memory()

    def close(self) -> None:
        """Close what was opened."""
        if "cache" in self.__dict__:
            self.cache.close()
        if "database" in self.__dict__:
            self.database.close()
