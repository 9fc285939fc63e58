"""CocoIndex with its LanceDB target: one component for each file, as its example for LanceDB shows it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import cocoindex as coco
import lancedb as lance
import numpy as np
from cocoindex.connectors import lancedb, localfs
from cocoindex.ops.text import RecursiveSplitter
from cocoindex.resources.chunk import Chunk
from cocoindex.resources.file import FileLike, PatternFilePathMatcher
from cocoindex.resources.id import IdGenerator
from cocoindex.resources.schema import VectorSchema, VectorSchemaProvider
from numpy.typing import NDArray

from tests.benchmarks.index.embedder import DIMENSIONS, MeteredEmbedder
from tests.benchmarks.index.meter import Meter, arguments

TABLE = "chunks"
given = arguments(__doc__)
metered = MeteredEmbedder(given.cost)
splitter = RecursiveSplitter()
restricted = set(sorted(given.docs.resolve().rglob("*.md"))[: given.restricted])
os.environ["COCOINDEX_DB"] = str(given.state / "state")


class _Embedder(VectorSchemaProvider):
    @coco.fn.as_async(batching=True, max_batch_size=500)
    def _embed(self, texts: list[str]) -> list[NDArray[np.float32]]:
        return list(metered.embed(texts))

    @coco.fn(memo=True, version=1, logic_tracking="self")
    async def embed(self, text: str) -> NDArray[np.float32]:
        return await self._embed(text)

    async def __coco_vector_schema__(self) -> VectorSchema:
        return VectorSchema(dtype=np.dtype(np.float32), size=DIMENSIONS)

    def __coco_memo_key__(self) -> object:
        return "metered"


DATABASE = coco.ContextKey[lancedb.LanceAsyncConnection]("database")
EMBEDDER = coco.ContextKey[_Embedder]("embedder")


@dataclass
class Row:
    id: int
    source: str
    allow: str
    start: int
    end: int
    text: str
    embedding: Annotated[NDArray, EMBEDDER]


@coco.lifespan
async def resources(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.provide(DATABASE, await lancedb.connect_async(str(given.state / "vectors")))
    builder.provide(EMBEDDER, _Embedder())
    yield


@coco.fn
async def process_chunk(chunk: Chunk, source: str, allow: str, ids: IdGenerator, table: lancedb.TableTarget[Row]) -> None:
    vector = await coco.use_context(EMBEDDER).embed(chunk.text)
    row = Row(await ids.next_id(chunk.text), source, allow, chunk.start.char_offset, chunk.end.char_offset, chunk.text, vector)
    table.declare_row(row=row)


@coco.fn(memo=True)
async def process_file(file: FileLike, allow: str, table: lancedb.TableTarget[Row]) -> None:
    chunks = splitter.split(await file.read_text(), chunk_size=1000, chunk_overlap=100, language="markdown")
    await coco.map(process_chunk, chunks, str(file.file_path.path), allow, IdGenerator(), table)


@coco.fn
async def process_one(file: FileLike, table: lancedb.TableTarget[Row]) -> None:
    await process_file(file, "group:hr" if file.file_path.resolve().resolve() in restricted else "everyone", table)


@coco.fn
async def main_component(folder: pathlib.Path) -> None:
    schema = await lancedb.TableSchema.from_class(Row, primary_key=["id"])
    table = await lancedb.mount_table_target(DATABASE, TABLE, schema)
    files = localfs.walk_dir(folder, recursive=True, path_matcher=PatternFilePathMatcher(included_patterns=["**/*.md"]))
    await coco.mount_each(process_one, files.items(), table)


def version() -> tuple[int, int]:
    """Commits and rows of the table."""
    connection = lance.connect(str(given.state / "vectors"))
    if TABLE not in connection.list_tables().tables:
        return 0, 0
    table = connection.open_table(TABLE)
    return table.version, table.count_rows()


def main() -> None:
    app = coco.App(coco.AppConfig(name="benchmark"), main_component, folder=given.docs)
    commits, _ = version()
    meter = Meter(metered)
    with meter.running():
        app.update_blocking()
    after, rows = version()
    meter.write(given.out, rows=rows, store_commits=after - commits)


if __name__ == "__main__":
    main()
