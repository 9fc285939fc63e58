"""The composition root: settings in, ready clients out. The only builder of clients.

Everything is built at first use, and heavy libraries are imported then, so that a light verb starts in a second. Time,
ids and randomness are made here and passed in.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affinage.blobs import BlobStore, FolderBlobs
from affinage.database.engine import Database
from affinage.engines.protocols import Embedder, Generator
from affinage.errors import ConfigurationError
from affinage.settings import Settings
from affinage.telemetry import Metrics

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.applications import Starlette

    from affinage.answers.prompts import PromptArchive
    from affinage.serving.answering import Answering
    from affinage.serving.sessions import Sessions

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
        self._base_digests: dict[str, str] = {}
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
            As stored with a generation: `name`, and `folder` of the PEFT files when `adapter` is not null. None: the
            packaged embedder as it comes.
        """
        from affinage.engines.minilm import NAME, MiniLM

        spec = spec or {"name": NAME}
        name, adapter, folder = str(spec.get("name", NAME)), spec.get("adapter"), spec.get("folder")
        if name != NAME:
            raise ConfigurationError(f"There is no embedder `{name}`.", hint=f"The embedder of a source is `{NAME}`.")
        if adapter and not folder:
            raise ConfigurationError(
                f"The embedder adapter `{adapter}` has no folder.", hint="Register it again: `affinage adapter register`."
            )
        key = (name, str(folder) if adapter else None)
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

    def _select(self, question: str, sentences: Sequence[str]) -> list[int]:
        from affinage.engines.extractive import select_sentences

        return select_sentences(question, sentences, embedder=self._sentence_embedder)

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
            self._select("ready", ["ready"])
            _ = self.searcher
        for engine in sorted({spec.engine for spec in declared} - {EXTRACTIVE}):
            if not engine.startswith(("http://", "https://")):
                self._served_generator(engine).generate([GenerationRequest((Message("user", "ready"),), max_tokens=1)])

    def close(self) -> None:
        """Close what was opened."""
        if "database" in self.__dict__:
            self.database.close()
