"""What the operations of this room work with, made in `wiring` or by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.documents.extraction import Extract, extract
from affinage.documents.sources import Places
from affinage.engines.protocols import Embedder
from affinage.index.cache import VectorCache
from affinage.index.progress import Watch
from affinage.index.stores.protocol import VectorStore

EmbedderOf = Callable[[Mapping[str, Any]], Embedder]


@dataclass(frozen=True)
class IndexClients:
    """Clients, clock and ids.

    `embedder_of` gives the embedder that a generation names. `places` opens sources within what operators allow. `extract`
    reads documents: by default in this process, without limits. `progress` gets a line when something is worth saying, `watch`
    hears how far a sync is. `reached` is called with a name at each step boundary: a test stops there.
    """

    database: Database
    store: VectorStore
    cache: VectorCache
    blobs: BlobStore
    embedder_of: EmbedderOf
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    places: Places = field(default_factory=Places)
    extract: Extract = extract
    progress: Callable[[str], None] = lambda _line: None
    watch: Watch = field(default_factory=Watch)
    reached: Callable[[str], None] = lambda _step: None
