"""The index: its stores, and the operations on sources and generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from affinage.wiring.models import Models

if TYPE_CHECKING:
    from affinage.documents.extraction.pool import ExtractionPool
    from affinage.documents.sources import Places
    from affinage.index.cache import VectorCache
    from affinage.index.clients import IndexClients
    from affinage.index.generations import BuildReport, SwitchReport
    from affinage.index.progress import Watch
    from affinage.index.reports import SyncReport
    from affinage.index.search import Searcher
    from affinage.index.stores.protocol import VectorStore


class Indexing(Models):
    """What changes the index, and what searches it."""

    @cached_property
    def store(self) -> VectorStore:
        """The vectors that are searched."""
        from affinage.index.stores.lancedb import LanceStore
        from affinage.index.stores.weaviate import WeaviateStore

        given = self.settings
        if given.vectors_url is None:
            return LanceStore(given.home / "vectors")
        key = given.vectors_api_key.get_secret_value() if given.vectors_api_key else None
        return WeaviateStore(given.vectors_url, grpc_port=given.vectors_grpc_port, api_key=key)

    @cached_property
    def cache(self) -> VectorCache:
        """Vectors by text; safe to lose."""
        from affinage.index.cache import VectorCache

        return VectorCache(self.settings.home / "vector-cache.db")

    @cached_property
    def extraction(self) -> ExtractionPool:
        """Reads documents in processes that can be killed."""
        from affinage.documents.extraction.pool import ExtractionPool

        return ExtractionPool()

    @cached_property
    def searcher(self) -> Searcher:
        """Search under rights."""
        from affinage.index.search import Searcher

        return Searcher(self.database, self.store, self.embedder)

    @cached_property
    def places(self) -> Places:
        """Opens sources within what operators allow."""
        from affinage.documents.sources import Places

        given = self.settings
        return Places(
            source_roots=given.source_roots,
            egress_hosts=given.egress_hosts,
            s3_endpoint_url=given.s3_endpoint_url,
            connections={name: url.get_secret_value() for name, url in given.connections.items()},
        )

    def index_clients(self, *, progress: Callable[[str], None] = lambda _: None, watch: Watch | None = None) -> IndexClients:
        """What the operations of `index` work with; `progress` gets a line now and then, `watch` hears how far a sync is."""
        from affinage.index.clients import IndexClients
        from affinage.index.progress import Watch

        return IndexClients(
            database=self.database,
            store=self.store,
            cache=self.cache,
            blobs=self.blobs,
            embedder_of=self.embedder,
            now=self.now,
            new_id=self.new_id,
            places=self.places,
            extract=self.extraction.extract,
            progress=progress,
            watch=watch or Watch(),
        )

    def sync(
        self,
        *sources: str,
        dry_run: bool = False,
        confirm_deletes: bool = False,
        progress: Callable[[str], None] = lambda _: None,
        watch: Watch | None = None,
    ) -> SyncReport:
        """Index what changed in the named sources, or in all, and sum up."""
        from affinage.index.sources import sync_sources

        return sync_sources(
            self.index_clients(progress=progress, watch=watch),
            sources,
            dry_run=dry_run,
            confirm_deletes=confirm_deletes,
            price_per_million_tokens=self.settings.embedding_price,
        )

    def sync_changed(self, *, progress: Callable[[str], None] = lambda _: None, watch: Watch | None = None) -> SyncReport:
        """Index the sources that somebody says have changed since their last sync."""
        from affinage.index.hints import hinted_sources
        from affinage.index.reports import SyncReport

        with self.database.read() as connection:
            hinted = hinted_sources(connection)
        return self.sync(*hinted, progress=progress, watch=watch) if hinted else SyncReport.total([], run_id=self.new_id())

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

    def close(self) -> None:
        """Close what was opened."""
        if "extraction" in self.__dict__:
            self.extraction.close()
        if "cache" in self.__dict__:
            self.cache.close()
        if "places" in self.__dict__:
            self.places.close()
        super().close()
