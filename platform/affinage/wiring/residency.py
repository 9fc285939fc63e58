"""Which adapter is on which pod: brought before it is needed, proved, and taken away when nobody needs it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from affinage.engines.protocols import Generator
from affinage.errors import AffinageError, ConflictError, DependencyError, RefusedError, UnknownObjectError
from affinage.wiring.indexing import Indexing

if TYPE_CHECKING:
    from affinage.answers.variant import Variant
    from affinage.engines.pods import Pods
    from affinage.registry.variants import StoredVariant
    from affinage.residency.idle import Idle

S = TypeVar("S")
T = TypeVar("T")
LEASE = "adapters on pods"
"""Held while a champion moves: nothing is unloaded between the look at the pods and the move."""


class Residency(Indexing):
    """Operations on the adapters of running engines."""

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
        return for_each(served, self._onto_pods)

    def warm_variant(self, variant_id: str) -> None:
        """Bring a variant's adapter onto every pod of its engine; nothing to do for an engine without pods."""
        from affinage.registry.variants import stored_variant

        with self.database.read() as connection:
            stored = stored_variant(connection, variant_id)
        self._onto_pods(stored, fresh=True)

    @contextmanager
    def kept_ready(self, stored: StoredVariant) -> Iterator[None]:
        """Everybody can be answered with the variant while the block lasts, in which the champion moves.

        What stands in the way is recorded, for `adapter show`.

        Raises
        ------
        DependencyError
            If a pod of its engine does not take the adapter, or none is ready.
        RefusedError
            If nothing here serves its engine, or the pods hold another base.
        """
        from affinage.index.leases import hold
        from affinage.registry.moves import record_held

        with hold(self.database, LEASE, now=self.now):
            try:
                self._check_engine(stored)
                self._onto_pods(stored, fresh=True)
            except (DependencyError, RefusedError) as error:
                reason = " ".join([error.message, *(error.reasons if isinstance(error, RefusedError) else ())])
                with self.database.write() as connection:
                    record_held(
                        connection,
                        assistant=stored.variant.assistant,
                        variant_id=stored.variant_id,
                        reason=reason,
                        now=self.now(),
                        new_id=self.new_id,
                    )
                if isinstance(error, RefusedError):
                    raise
                raise DependencyError(
                    error.system,
                    f"Variant `{stored.variant_id}` cannot serve `{stored.variant.assistant}` now. {error.message}",
                    hint=error.hint,
                    retryable=error.retryable,
                ) from error
            yield

    def _check_engine(self, stored: StoredVariant) -> None:
        """Refuse a variant whose engine does not serve here, or holds another base by now."""
        from affinage.answers.answer import EXTRACTIVE
        from affinage.engines import smollm2
        from affinage.engines.pool import GeneratorPool

        engine, wanted = stored.variant.engine, stored.variant.base_digest
        if engine == EXTRACTIVE or engine.startswith(("http://", "https://")):
            return
        refusal = f"Variant `{stored.variant_id}` cannot serve `{stored.variant.assistant}`."
        generator = self.served_generator(engine) if engine in self.settings.generator_urls else None
        if isinstance(generator, GeneratorPool):
            found = generator.look()
            if wanted not in (None, found):
                raise RefusedError(
                    refusal,
                    reasons=[f"It needs the base {str(wanted)[:12]}; the pods of `{engine}` hold {found[:12]}."],
                    hint="Start a pool with the base that it was made for, or promote another variant.",
                )
        elif engine != smollm2.NAME and not self._is_here(engine):
            raise RefusedError(
                refusal,
                reasons=[f"No pool serves its engine `{engine}`, and the weights are not on this machine."],
                hint="Start its pool again (AFFINAGE_GENERATORS), or promote another variant.",
            )

    def _is_here(self, engine: str) -> bool:
        try:
            return self._base_folder(engine).is_dir()
        except UnknownObjectError:
            return False

    def _onto_pods(self, stored: StoredVariant, *, fresh: bool = False) -> str | None:
        """Bring a variant's adapter to the pods of its engine; None when there is nothing to do, also for engines without pods.

        `fresh` looks at every pod now; else the picture may be some seconds old.
        """
        adapter = stored.variant.adapter
        if adapter is None or not self._has_pods(stored):
            return None
        ready = self.metrics.adapter_ready.labels(adapter=adapter)
        try:
            brought = self._send(stored, adapter, fresh=fresh)
        except AffinageError:
            ready.set(0)
            raise
        ready.set(1)
        return adapter if brought else None

    def _has_pods(self, stored: StoredVariant) -> bool:
        if stored.adapter_task == "embedder":
            return self.settings.embedder_url is not None
        return stored.variant.engine in self.settings.generator_urls

    def _send(self, stored: StoredVariant, adapter: str, *, fresh: bool) -> bool:
        from affinage.engines.pool import GeneratorPool
        from affinage.engines.remote_embedder import RemoteEmbedder

        if stored.adapter_task == "embedder":
            embedder = self.embedder({"name": "package:minilm", "adapter": adapter})
            return isinstance(embedder, RemoteEmbedder) and embedder.send_adapter(fresh=fresh)
        generator = self.served_generator(stored.variant.engine)
        if isinstance(generator, GeneratorPool) and fresh:
            generator.look()
        if adapter in generator.adapters():
            return False
        self._bring(generator, stored.variant)
        return True

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

    def unload_idle(self) -> list[str]:
        """Take adapters off the pods that nobody has needed for a while; returns those that went."""
        from affinage.index.leases import hold

        pools = self._pools()
        if not pools:
            return []
        loaded = {url: pods.loaded() for url, pods in pools.items()}
        self._idle.see(loaded, unneeded=self._unneeded(), now=self.now())
        if not self._idle.due(now=self.now()):
            return []

        def busy() -> None:
            raise ConflictError("A champion is being moved.")

        try:
            with hold(self.database, LEASE, now=self.now, on_wait=busy):
                # Once more, now that no champion can move.
                self._idle.see(loaded, unneeded=self._unneeded(), now=self.now())
                return for_each(self._idle.due(now=self.now()), lambda one: self._drop(pools, *one))
        except ConflictError:
            return []  # at the next look

    def _drop(self, pools: dict[str, Pods], url: str, adapter: str) -> str:
        pools[url].drop_adapter(adapter)
        self._idle.forget(url, adapter)
        self.metrics.adapter_unloads.inc()
        self.metrics.adapter_ready.remove(adapter)
        return adapter

    def _pools(self) -> dict[str, Pods]:
        """The pods of every engine that runs elsewhere, by address."""
        from affinage.engines.pool import GeneratorPool

        generators = [self.served_generator(engine) for engine in self.settings.generator_urls]
        pods = [generator.pods for generator in generators if isinstance(generator, GeneratorPool)]
        return {one.url: one for one in [*pods, *([self._embedder_pods] if self._embedder_pods is not None else [])]}

    def _unneeded(self) -> set[str]:
        from affinage.experiments.served import unneeded_adapters

        with self.database.read() as connection:
            return unneeded_adapters(connection)

    @cached_property
    def _idle(self) -> Idle:
        from affinage.residency.idle import Idle

        return Idle()

    def pods_of(self, stored: StoredVariant) -> list[dict[str, Any]] | None:
        """Each ready pod of the variant's engine and whether it has the adapter now; None for an engine without pods."""
        from affinage.engines.pool import GeneratorPool

        adapter = stored.variant.adapter
        if stored.adapter_task == "embedder":
            pods = self._embedder_pods
        else:
            engine = stored.variant.engine
            generator = self.served_generator(engine) if engine in self.settings.generator_urls else None
            pods = generator.pods if isinstance(generator, GeneratorPool) else None
        if pods is None:
            return None
        try:
            return [{"pod": pod.server.root, "ready": pod.has(adapter)} for pod in pods.ready(fresh=True)]
        except DependencyError:
            return []


def for_each(things: Iterable[S], do: Callable[[S], T | None]) -> list[T]:
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
