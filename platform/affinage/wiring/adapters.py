"""The life of an adapter: trained or brought in, judged, released, promoted, loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from affinage.engines.protocols import Generator
from affinage.errors import AffinageError, RefusedError
from affinage.wiring.indexing import Indexing

if TYPE_CHECKING:
    from affinage.answers.variant import Variant
    from affinage.declarations.model import AssistantSpec
    from affinage.experiments.operate import Evaluation as Look
    from affinage.experiments.repository import Experiment
    from affinage.registry.moves import Move
    from affinage.registry.variants import StoredVariant
    from affinage.tuning.evaluate import Evaluation
    from affinage.tuning.run import TrainedAdapter

S = TypeVar("S")
T = TypeVar("T")


class Adapters(Indexing):
    """Operations on variants and their adapters."""

    @cached_property
    def _replies(self) -> dict[tuple[str | int | None, ...], list[str]]:
        """Replies of the control to held-out rows: the same for each candidate that it is compared with."""
        return {}

    def load_adapter(self, generator: Generator, variant: Variant) -> None:
        """Bring the variant's adapter onto `generator`, verified, countersigned and proved; quick when it is there.

        Of a pool one pod is enough: who answers a question does not wait for the others, which `warm_pods` sees to.
        """
        from affinage.engines.pool import GeneratorPool

        if variant.adapter is None or variant.adapter in generator.adapters():
            return
        if isinstance(generator, GeneratorPool) and generator.serves(variant.adapter):
            return
        self._bring(generator, variant)

    def warm_pods(self) -> list[str]:
        """Bring the adapters of all variants that users meet onto every pod that lacks them; returns those that were brought."""
        from affinage.experiments.served import served_variants
        from affinage.registry.variants import stored_variant

        with self.database.read() as connection:
            served = [stored_variant(connection, variant_id) for variant_id in served_variants(connection)]
        return _for_each(served, self._onto_pods)

    def _onto_pods(self, stored: StoredVariant) -> str | None:
        """Bring a variant's adapter to the pods of its engine; None when there is nothing to do, also for engines without pods."""
        from affinage.engines.remote_embedder import RemoteEmbedder

        adapter, engine = stored.variant.adapter, stored.variant.engine
        if adapter is None:
            return None
        if stored.adapter_task == "embedder":
            embedder = self.embedder({"name": "package:minilm", "adapter": adapter}) if self.settings.embedder_url else None
            if isinstance(embedder, RemoteEmbedder) and embedder.send_adapter():
                return adapter
        elif engine in self.settings.generator_urls:
            generator = self.served_generator(engine)
            if adapter not in generator.adapters():
                self._bring(generator, stored.variant)
                return adapter
        return None

    def _bring(self, generator: Generator, variant: Variant) -> None:
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
                generator=self.trial_generator,
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
        from affinage.registry.names import CANDIDATE

        return self._for_each_assistant(lambda spec: self._take_in(spec, CANDIDATE))

    def take_in_champions(self) -> list[Move]:
        """Make variants serve whose alias `champion` somebody set in MLflow: a recorded override, never of verification."""
        from affinage.registry.names import CHAMPION

        def follow(spec: AssistantSpec) -> Move | None:
            taken = self._take_in(spec, CHAMPION)
            if taken is None:
                return None
            reason = f"The alias champion was set to version {taken.model_version} in MLflow."
            return self.promote_variant(taken.variant_id, actor="registry", reason=reason)

        return self._for_each_assistant(follow)

    def _take_in(self, spec: AssistantSpec, alias: str) -> StoredVariant | None:
        from affinage.answers.answer import EXTRACTIVE
        from affinage.registry.follow import sync_alias
        from affinage.tuning.register import current_variant

        if self.settings.registry_url is None and not (self.settings.home / "mlflow.db").exists():
            return None  # nobody has registered anything; looking would make the registry
        digest = None if spec.engine == EXTRACTIVE else self.base_digest(spec.engine)
        return sync_alias(
            self.database,
            self.registry,
            alias=alias,
            organisation=spec.organisation,
            current=current_variant(self.database, spec, base_digest=digest),
            base_of=self._base_for,
            now=self.now,
            new_id=self.new_id,
        )

    def start_due_experiments(self) -> list[Experiment]:
        """Put each candidate before users that passed the gate and waits for its turn."""
        from affinage.declarations.repository import get_assistant
        from affinage.experiments.due import due_candidates
        from affinage.experiments.operate import start_experiment

        def start(due: tuple[str, str]) -> Experiment:
            assistant, candidate = due
            with self.database.read() as connection:
                rollout = get_assistant(connection, assistant).rollout
            return start_experiment(
                self.database,
                assistant=assistant,
                candidate=candidate,
                rollout=rollout,
                now=self.now,
                new_id=self.new_id,
                warm=self._warm_variant,
            )

        with self.database.read() as connection:
            waiting = due_candidates(connection)
        return _for_each(waiting, start)

    def look_at_experiments(self) -> list[Look]:
        """Look at the evidence of every experiment that has not ended, and do what follows from it."""
        from affinage.experiments.operate import evaluate_experiment
        from affinage.experiments.repository import list_experiments

        def look(experiment: Experiment) -> Look:
            return evaluate_experiment(
                self.database, experiment_id=experiment.experiment_id, now=self.now, new_id=self.new_id, metrics=self.metrics
            )

        with self.database.read() as connection:
            live = list_experiments(connection, live=True)
        looks = _for_each(live, look)
        self.follow_moves()
        return looks

    def _for_each_assistant(self, look: Callable[[AssistantSpec], T | None]) -> list[T]:
        from affinage.declarations.repository import list_assistants

        with self.database.read() as connection:
            declared = list_assistants(connection)
        return _for_each(declared, look)

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
            release=self._release_warm,
            actor=actor,
            reason=reason,
            now=self.now,
            new_id=self.new_id,
        )
        self.follow_moves()
        return move

    def _warm_variant(self, variant_id: str) -> None:
        from affinage.registry.variants import stored_variant

        with self.database.read() as connection:
            stored = stored_variant(connection, variant_id)
        self._onto_pods(stored)

    def _release_warm(self, variant_id: str) -> StoredVariant:
        """The variant that can serve, with its adapter on every pod: nobody waits for it, and nobody is refused."""
        self._warm_variant(variant_id)  # an index generation is built with the embedder's pods
        served = self.release_variant(variant_id)
        self._onto_pods(served)
        return served

    def follow_moves(self) -> int:
        """Bring MLflow's aliases to where our recorded moves put them."""
        from affinage.registry.follow import finish_moves

        return finish_moves(self.database, self.registry, now=self.now)


def _for_each(things: Iterable[S], do: Callable[[S], T | None]) -> list[T]:
    """What `do` gives, without None; the first failure is raised when every thing has had its turn."""
    given: list[T] = []
    failures: list[AffinageError] = []
    for thing in things:
        try:
            one = do(thing)
        except AffinageError as error:
            failures.append(error)
            continue
        given += [one] if one is not None else []
    if failures:
        raise failures[0]
    return given
