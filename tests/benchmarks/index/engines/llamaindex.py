"""LlamaIndex's ingestion pipeline with its document store and vector store in memory, as its guide shows them.

Both are saved between runs; the time of that is stated apart, and leaving it out of the table flatters it.
"""

from __future__ import annotations

import time
from typing import Any

from langchain_text_splitters import RecursiveCharacterTextSplitter
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser.interface import TextSplitter
from llama_index.core.schema import Document
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore
from pydantic import PrivateAttr

from tests.benchmarks.index.embedder import MeteredEmbedder
from tests.benchmarks.index.meter import Meter, arguments


class _Splitter(TextSplitter):
    """The recursive splitter of the other peers."""

    _splitter: Any = PrivateAttr(default_factory=lambda: RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=100))

    def split_text(self, text: str) -> list[str]:
        return self._splitter.split_text(text)


class _Embedding(BaseEmbedding):
    _metered: MeteredEmbedder = PrivateAttr()

    def __init__(self, metered: MeteredEmbedder) -> None:
        super().__init__(model_name="metered", embed_batch_size=500)
        self._metered = metered

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._metered.embed(texts).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def main() -> None:
    given = arguments(__doc__)
    metered = MeteredEmbedder(given.cost)
    documents_file, vectors_file = str(given.state / "documents.json"), str(given.state / "vectors.json")
    is_first = not (given.state / "documents.json").exists()
    documents = SimpleDocumentStore() if is_first else SimpleDocumentStore.from_persist_path(documents_file)
    vectors = SimpleVectorStore() if is_first else SimpleVectorStore.from_persist_path(vectors_file)
    pipeline = IngestionPipeline(
        transformations=[_Splitter(), _Embedding(metered)],
        docstore=documents,
        vector_store=vectors,
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        disable_cache=True,
    )
    meter = Meter(metered)
    before = set(vectors.data.embedding_dict)
    with meter.running():
        read = []
        for number, file in enumerate(sorted(given.docs.rglob("*.md"))):
            name = file.relative_to(given.docs).as_posix()
            allow = "group:hr" if number < given.restricted else "everyone"
            read.append(Document(text=file.read_text(encoding="utf-8"), id_=name, metadata={"source": name, "allow": allow}))
        pipeline.run(documents=read)
    began = time.perf_counter()
    documents.persist(documents_file)
    vectors.persist(vectors_file)
    persisted = round(time.perf_counter() - began, 3)
    after = set(vectors.data.embedding_dict)
    new, gone = len(after - before), len(before - after)
    meter.write(given.out, rows=len(after), vector_rows_written=new, store_rows_written=new + gone, persist_seconds=persisted)


if __name__ == "__main__":
    main()
