"""The composition root: settings in, ready clients out. The only builder of clients.

Everything is built at first use, and heavy libraries are imported then, so that a light verb starts in a second. Time,
ids and randomness are made here and passed in. Each module adds a part to the one before it: installation, models,
indexing, adapters; `Affinage` has them all, and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from affinage.engines.extractive import Excerpt
from affinage.engines.protocols import Embedder
from affinage.wiring.adapters import Adapters
from affinage.wiring.installation import random_id, utc_now

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.applications import Starlette

    from affinage.answers.prompts import PromptArchive
    from affinage.index.metrics import IndexMetrics
    from affinage.serving.answering import Answering
    from affinage.serving.controller import Controller
    from affinage.serving.sessions import Sessions

__all__ = ["Affinage", "random_id", "utc_now"]


class Affinage(Adapters):
    """One installation with all its operations."""

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
            generator_of=self.served_generator,
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
        from affinage.registry.variants import champion_of

        with self.database.read() as connection:
            declared = list_assistants(connection)
            champions = {spec.name: champion_of(connection, spec.name) for spec in declared}
        if any(spec.sources for spec in declared):
            self._select("ready", [Excerpt("ready")])
            _ = self.searcher
        # Of an assistant that has moved to another base, the declared engine may be gone.
        serving = {(champions[spec.name] or spec).engine for spec in declared}
        for engine in sorted(serving - {EXTRACTIVE}):
            # What runs elsewhere is ready or not by itself: the other assistants do not wait for it.
            if not engine.startswith(("http://", "https://")) and engine not in self.settings.generator_urls:
                self.served_generator(engine).generate([GenerationRequest((Message("user", "ready"),), max_tokens=1)])

    def controller(self) -> Controller:
        """What the controller of this installation does, in order."""
        from affinage.serving.controller import Controller, Duty

        duties = (
            Duty("moves", self.follow_moves),
            Duty("pods", self.warm_pods),
            Duty("champions", self.take_in_champions),
            Duty("starts", self.resume_starts),
            Duty("candidates", self.start_due_experiments),
            Duty("experiments", self.look_at_experiments),
            Duty("idle adapters", self.unload_idle),
            Duty("gauges", self.set_gauges),
        )
        return Controller(self.database, duties, metrics=self.metrics, now=self.now)

    def set_gauges(self) -> None:
        """Bring the metrics of this process to what the record of truth says."""
        self._index_metrics.refresh()

    @cached_property
    def _index_metrics(self) -> IndexMetrics:
        from affinage.index.metrics import IndexMetrics

        return IndexMetrics(self.database, self.metrics)

    def release_models(self) -> None:
        """Give back the memory of loaded models; they are loaded again when they are needed."""
        self.__dict__.pop("_sentence_embedder", None)  # it holds one of them
        super().release_models()
