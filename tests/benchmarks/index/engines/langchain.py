"""LangChain's `index()` with its SQL record manager and its vector store in memory, as its guide shows them.

The store is saved between runs outside the measured time, which flatters it.
"""

from __future__ import annotations

import pickle
from typing import Any

from langchain_classic.indexes import SQLRecordManager
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import index
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter

from tests.benchmarks.index.embedder import MeteredEmbedder
from tests.benchmarks.index.meter import Meter, arguments


class _Embeddings(Embeddings):
    def __init__(self, metered: MeteredEmbedder) -> None:
        self._metered = metered

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._metered.embed(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class _Store(InMemoryVectorStore):
    """Counts what is written."""

    written = deleted = 0

    def add_documents(self, documents: list[Document], *args: Any, **options: Any) -> list[str]:
        self.written += len(documents)
        return super().add_documents(documents, *args, **options)

    def delete(self, ids: Any = None, **options: Any) -> None:
        self.deleted += len(ids or ())
        super().delete(ids, **options)


def main() -> None:
    given = arguments(__doc__)
    metered = MeteredEmbedder(given.cost)
    saved = given.state / "store.pickle"
    store = _Store(_Embeddings(metered))
    if saved.exists():
        store.store = pickle.loads(saved.read_bytes())
    records = SQLRecordManager("corpus", db_url=f"sqlite:///{given.state / 'records.db'}")
    records.create_schema()
    splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=100)
    meter = Meter(metered)
    with meter.running():
        documents = []
        for number, file in enumerate(sorted(given.docs.rglob("*.md"))):
            allow = "group:hr" if number < given.restricted else "everyone"
            metadata = {"source": file.relative_to(given.docs).as_posix(), "allow": allow}
            documents.append(Document(file.read_text(encoding="utf-8"), metadata=metadata))
        chunks = splitter.split_documents(documents)
        # Batches as large as the record manager's database takes in one statement.
        index(chunks, records, store, cleanup="full", source_id_key="source", key_encoder="blake2b", batch_size=500)
    saved.write_bytes(pickle.dumps(store.store))
    meter.write(given.out, rows=len(store.store), vector_rows_written=store.written, store_rows_written=store.written + store.deleted)


if __name__ == "__main__":
    main()
