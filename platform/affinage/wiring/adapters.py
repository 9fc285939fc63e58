"""The life of an adapter: trained or brought in, judged, released, promoted, rolled back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from affinage.wiring.residency import Residency, for_each

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from affinage.answers.variant import Variant
    from affinage.declarations.model import AssistantSpec
    from affinage.experiments.operate import Evaluation as Look
    from affinage.experiments.repository import Experiment
    from affinage.registry.moves import Move
    from affinage.registry.variants import StoredVariant
    from affinage.tuning.evaluate import Evaluation
    from affinage.tuning.run import TrainedAdapter

T = TypeVar("T")


class Adapters(Residency):
    """Operations on variants and their adapters."""

    @cached_property
    def _replies(self) -> dict[tuple[str | int | None, ...], list[str]]:
        """Replies of the control to held-out rows: the same for each candidate that it is compared with."""
        return {}

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
            moves: list[Move] = []

            def promote(taken: StoredVariant) -> None:
                reason = f"The alias champion was set to version {taken.model_version} in MLflow."
                moves.append(self.promote_variant(taken.variant_id, actor="registry", reason=reason))

            self._take_in(spec, CHAMPION, then=promote)
            return moves[0] if moves else None

        return self._for_each_assistant(follow)

    def _take_in(self, spec: AssistantSpec, alias: str, *, then: Callable[[StoredVariant], None] | None = None) -> StoredVariant | None:
        from affinage.registry.follow import sync_alias
        from affinage.tuning.register import current_variant

        if self.settings.registry_url is None and not (self.settings.home / "mlflow.db").exists():
            return None  # nobody has registered anything; looking would make the registry
        return sync_alias(
            self.database,
            self.registry,
            alias=alias,
            organisation=spec.organisation,
            current=current_variant(self.database, spec, base_digest_of=lambda: self.base_digest(spec.engine)),
            base_of=self._base_for,
            then=then,
            now=self.now,
            new_id=self.new_id,
        )

    def start_due_experiments(self) -> list[Experiment]:
        """Put each candidate before users that passed the gate and waits for its turn."""
        from affinage.declarations.repository import get_assistant
        from affinage.experiments.due import due_candidates
        from affinage.experiments.start import PATIENCE, start_experiment

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
                warm=self.warm_variant,
                patience=PATIENCE,
            )

        with self.database.read() as connection:
            waiting = due_candidates(connection)
        return for_each(waiting, start)

    def resume_starts(self) -> list[Experiment]:
        """Go on with every start of an experiment whose process is gone."""
        from affinage.experiments.repository import list_experiments
        from affinage.experiments.start import resume_start

        def resume(experiment: Experiment) -> Experiment | None:
            return resume_start(
                self.database, experiment_id=experiment.experiment_id, warm=self.warm_variant, now=self.now, new_id=self.new_id
            )

        with self.database.read() as connection:
            live = list_experiments(connection, live=True)
        return for_each(live, resume)

    def look_at_experiments(self) -> list[Look]:
        """Look at the evidence of every experiment that has not ended, and do what follows from it."""
        from affinage.experiments.repository import list_experiments

        with self.database.read() as connection:
            live = [experiment.experiment_id for experiment in list_experiments(connection, live=True)]
        looks = for_each(live, self.look_at_experiment)
        self.follow_moves()
        return looks

    def look_at_experiment(self, experiment_id: str, *, actor: str = "controller") -> Look:
        """Look at the evidence of one experiment, and do what follows; its candidate becomes champion once every pod has it."""
        from affinage.experiments.operate import evaluate_experiment
        from affinage.registry.variants import stored_variant

        def ready(variant_id: str) -> AbstractContextManager[None]:
            with self.database.read() as connection:
                return self.kept_ready(stored_variant(connection, variant_id))

        return evaluate_experiment(
            self.database, experiment_id=experiment_id, now=self.now, new_id=self.new_id, ready=ready, metrics=self.metrics, actor=actor
        )

    def _for_each_assistant(self, look: Callable[[AssistantSpec], T | None]) -> list[T]:
        from affinage.declarations.repository import list_assistants

        with self.database.read() as connection:
            declared = list_assistants(connection)
        return for_each(declared, look)

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
            release=self._release,
            kept_ready=self.kept_ready,
            actor=actor,
            reason=reason,
            now=self.now,
            new_id=self.new_id,
        )
        self.follow_moves()
        return move

    def _release(self, variant_id: str) -> StoredVariant:
        from affinage.registry.variants import stored_variant

        with self.database.read() as connection:
            stored = stored_variant(connection, variant_id)
        if stored.adapter_task == "embedder":
            self.warm_variant(variant_id)  # an index generation is built with the embedder's pods
        return self.release_variant(variant_id)

    def rollback_variant(self, assistant: str, *, actor: str, reason: str) -> Move:
        """Make the variant that served before the present one serve again, once every pod has what it needs."""
        from affinage.registry.moves import rollback_champion, rollback_target
        from affinage.registry.variants import stored_variant

        with self.database.read() as connection:
            target, version = rollback_target(connection, assistant)
            stored = stored_variant(connection, target)
        with self.kept_ready(stored), self.database.write() as connection:
            move = rollback_champion(
                connection, assistant=assistant, actor=actor, reason=reason, now=self.now(), new_id=self.new_id, expected_version=version
            )
        self.follow_moves()
        return move

    def follow_moves(self) -> int:
        """Bring MLflow's aliases to where our recorded moves put them."""
        from affinage.registry.follow import finish_moves

        return finish_moves(self.database, self.registry, now=self.now)
