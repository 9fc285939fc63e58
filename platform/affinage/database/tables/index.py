"""The ledger of the incremental index: what is known of each document, and which rows are current."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from affinage.database.tables.base import Instant, Json, metadata

document = Table(
    "document", metadata,
    # Minted once and kept across moves; never derived from the path.
    Column("doc_key", String, primary_key=True),
    Column("source", ForeignKey("source.name"), nullable=False),
    Column("path", String, nullable=False),
    # As listed when it was last read; NULL: read it again at the next sync.
    Column("signature", Json),
    # Of the bytes, and of the extracted document, last indexed; the extract is the blob `extracts/<extract_hash>.json`.
    Column("raw_hash", String),
    Column("extract_hash", String),
    Column("title", String),
    Column("language", String),
    # Principals that may read it, as declared now: this column decides. Sorted list; empty: nobody.
    Column("allow", Json, nullable=False),
    # indexed | failed (a last good revision, if there is one, is still served)
    Column("state", String, nullable=False),
    Column("failure", Json),
    # Of a failed document: how often these bytes were tried, and when they are tried again; NULL: when something changes.
    Column("attempts", Integer),
    Column("retry_at", Instant),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("source", "path"),
)

generation = Table(
    "generation", metadata,
    Column("generation_id", String, primary_key=True),
    Column("source", ForeignKey("source.name"), nullable=False),
    # Fingerprints of extract, split, embed and store, and the name of the embedder that makes its vectors.
    Column("fingerprint", Json, nullable=False),
    Column("embedder", Json, nullable=False),
    # building | ready | serving | retired; all but the first follow every sync
    Column("state", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index(None, "source", "state"),
)

# Texts that tell whether an embedder known by name only is still the one that made the generation's vectors.
canary = Table(
    "canary", metadata,
    Column("generation_id", ForeignKey("generation.generation_id"), primary_key=True),
    Column("text", String, primary_key=True),
    # Little-endian float32, of length 1.
    Column("vector", LargeBinary, nullable=False),
)

# One row for each document that a generation serves: the switch that makes a revision visible.
document_revision = Table(
    "document_revision", metadata,
    Column("generation_id", ForeignKey("generation.generation_id"), primary_key=True),
    Column("doc_key", ForeignKey("document.doc_key"), primary_key=True),
    # Fence of the lease that wrote it.
    Column("revision", BigInteger, nullable=False),
    Column("raw_hash", String, nullable=False),
    Column("extract_hash", String, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    # Principals that all its rows in the vector store carry; NULL: not the same on all of them. A sync patches the
    # store when it differs from `document.allow`.
    Column("stored_allow", Json),
    Index(None, "extract_hash"),
)

chunk = Table(
    "chunk", metadata,
    Column("generation_id", String, primary_key=True),
    Column("row_id", String, primary_key=True),
    Column("chunk_id", String, nullable=False),
    Column("doc_key", String, nullable=False),
    Column("embed_hash", String, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("page", Integer),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    # Offsets of the blocks inside the chunk, as [start, end] in the document's text.
    Column("spans", Json, nullable=False),
    Column("heading", String, nullable=False),
    Column("text", Text, nullable=False),
    Index(None, "generation_id", "doc_key"),
    Index(None, "chunk_id"),
    Index(None, "embed_hash"),
)

# Write-ahead list of everything that may exist without being current, or must go.
intent = Table(
    "intent", metadata,
    Column("generation_id", String, primary_key=True),
    # A row of the store, or the hash of an extract.
    Column("row_id", String, primary_key=True),
    # row | extract
    Column("kind", String, nullable=False),
    # Of a row: its cached vector goes with the last chunk that has this text.
    Column("embed_hash", String),
    Column("doc_key", String, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Index(None, "generation_id", "doc_key"),
)

lease = Table(
    "lease", metadata,
    Column("name", String, primary_key=True),
    Column("owner", Json),
    Column("fence", BigInteger, nullable=False),
    Column("until", Instant),
)

# Somebody says that a source has changed: a sync is due until one with a larger fence has ended.
source_hint = Table(
    "source_hint", metadata,
    Column("source", String, primary_key=True),
    # Fence of the source's lease when it was said.
    Column("after_fence", BigInteger, nullable=False),
    Column("asked_at", Instant, nullable=False),
)

index_run = Table(
    "index_run", metadata,
    # One run of several sources has one row for each.
    Column("run_id", String, primary_key=True),
    Column("source", String, primary_key=True),
    # Fence of the lease it ran under: who waited for that lease returns this run's report.
    Column("fence", BigInteger, nullable=False),
    # sync | switch | rollback
    Column("action", String, nullable=False),
    # complete | partial | held | failed
    Column("status", String, nullable=False),
    Column("report", Json, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("confirmed_deletes", Boolean, nullable=False, default=False),
    Index(None, "source", "started_at"),
)
