"""A small installation for tests of answers and the gateway: real ledger, rights and records; a search by shared words.

What is replaced is what needs a model: vectors, and the engine. `HostileGenerator` is a model that works for the attacker.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, update

from affinage.answers.prompts import load_prompt
from affinage.answers.variant import Variant
from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.database.tables import index as ledger
from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import parse_declarations
from affinage.documents.blocks import Block, ExtractedDocument
from affinage.engines.extractive import Excerpt, content_words
from affinage.engines.protocols import Generation, GenerationRequest, Generator
from affinage.errors import UnknownObjectError
from affinage.identity.directory import add_member
from affinage.identity.keys import create_key
from affinage.identity.rights import may_read
from affinage.index import extracts
from affinage.index.passages import Passage
from affinage.index.reading import current_passage
from affinage.serving.answering import Answering
from affinage.serving.routing import DatabaseRouting

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CALL_SCHEMA = {
    "type": "object",
    "properties": {"product": {"type": "string"}, "reason": {"enum": ["refund", "delay"]}, "reference": {"type": ["string", "null"]}},
    "required": ["product", "reason", "reference"],
    "additionalProperties": False,
}
DECLARED: dict[str, Any] = {
    "sources": [{"name": "handbook", "path": "handbook"}],
    "assistants": [
        {"name": "guichet", "description": "Procedures.", "sources": ["handbook"]},
        {"name": "writer", "sources": ["handbook"], "engine": "double"},
        {"name": "calls", "task": "extract", "engine": "double", "sources": [], "prompt": "extract-json", "answer_schema": CALL_SCHEMA},
        {"name": "secret", "sources": ["handbook"], "access": ["group:hr"]},
    ],
}


@functools.cache
def _migrated() -> Path:
    """An empty database at the newest schema, made once for all worlds of a test run."""
    file = Path(tempfile.mkdtemp(prefix="affinage-world-")) / "affinage.db"
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    database = Database(f"sqlite:///{file}")
    database.migrate()
    database.close()
    return file


class World:
    """An installation with one source, `handbook`, whose documents are added by hand: one block, one chunk."""

    def __init__(self, folder: Path, *, generator: Generator | None = None) -> None:
        shutil.copyfile(_migrated(), folder / "affinage.db")
        self.database = Database(f"sqlite:///{folder / 'affinage.db'}")
        self.blobs = FolderBlobs(folder / "blobs")
        self.generator: Generator = generator or ScriptedGenerator([])
        self._ids = itertools.count(1)
        with self.database.write() as connection:
            declared = parse_declarations(DECLARED, folder=folder, origin="test")
            apply_declarations(connection, declared, now=AT)
            connection.execute(
                insert(ledger.generation).values(
                    generation_id="g1", source="handbook", fingerprint={}, embedder={}, state="serving", created_at=AT
                )
            )

    def new_id(self) -> str:
        return f"id-{next(self._ids):06d}"

    def now(self) -> datetime:
        return AT

    def add(self, path: str, *blocks: str, allow: Sequence[str] = ("everyone",), title: str = "", page: int | None = None) -> str:
        """Add a document; each block becomes a chunk. Returns its key."""
        doc_key = f"doc-{path}"
        made = ExtractedDocument(title or path, "en", tuple(Block("paragraph", block, page=page) for block in blocks))
        digest, data = extracts.encode(made, source="handbook", extractor="test")
        self.blobs.put(extracts.blob_name(digest), data)
        with self.database.write() as connection:
            connection.execute(
                insert(ledger.document).values(
                    doc_key=doc_key,
                    source="handbook",
                    path=path,
                    title=made.title,
                    language="en",
                    allow=list(allow),
                    state="indexed",
                    updated_at=AT,
                )
            )
            connection.execute(
                insert(ledger.document_revision).values(
                    generation_id="g1", doc_key=doc_key, revision=1, raw_hash="", extract_hash=digest, chunk_count=len(blocks)
                )
            )
            for ordinal, (block, (start, end)) in enumerate(zip(blocks, made.spans(), strict=True)):
                connection.execute(
                    insert(ledger.chunk).values(
                        generation_id="g1",
                        row_id=f"row-{path}-{ordinal}",
                        chunk_id=f"chunk-{path}-{ordinal}",
                        doc_key=doc_key,
                        embed_hash="",
                        ordinal=ordinal,
                        page=page,
                        start=start,
                        end=end,
                        spans=[[start, end]],
                        heading="",
                        text=block,
                    )
                )
        return doc_key

    def allow(self, doc_key: str, *principals: str) -> None:
        with self.database.write() as connection:
            connection.execute(update(ledger.document).where(ledger.document.c.doc_key == doc_key).values(allow=list(principals)))

    def rewrite(self, doc_key: str, text: str) -> None:
        """Another text under the same chunk id, as an attacker would want it."""
        with self.database.write() as connection:
            connection.execute(update(ledger.chunk).where(ledger.chunk.c.doc_key == doc_key).values(text=text))

    def remove(self, doc_key: str) -> None:
        with self.database.write() as connection:
            connection.execute(delete(ledger.chunk).where(ledger.chunk.c.doc_key == doc_key))

    def join(self, group: str, user: str) -> None:
        with self.database.write() as connection:
            add_member(connection, group=group, user=user)

    def key(self, user: str) -> str:
        with self.database.write() as connection:
            return create_key(connection, user=user, now=AT, new_id=self.new_id)[1]

    def search(self, query: str, *, generations: Mapping[str, str], principals: frozenset[str], k: int) -> list[Passage]:
        """Visible chunks by shared words: what the index promises, without vectors."""
        found = []
        with self.database.read() as connection:
            for chunk_id in connection.execute(select(ledger.chunk.c.chunk_id).order_by(ledger.chunk.c.chunk_id)).scalars().all():
                passage = current_passage(connection, chunk_id, generations=generations, principals=principals)
                if passage is not None and may_read(principals, passage.allow):
                    shared = len(content_words(query) & content_words(passage.text))
                    if shared:
                        found.append((-shared, chunk_id, passage))
        return [passage for _, _, passage in sorted(found, key=lambda entry: entry[:2])][:k]

    def answering(self, **replaced: Any) -> Answering:
        parts: dict[str, Any] = {
            "database": self.database,
            "search_of": lambda: self,
            "generator_of": lambda engine: self.generator,
            "select": select_by_words,
            "routing": DatabaseRouting(base_digest_of=lambda engine: None if engine == "extractive" else "base-digest"),
            "prompt_of": lambda spec, digest: load_prompt(spec.prompt),
            "load_adapter": self.load_adapter,
            "now": self.now,
            "new_id": self.new_id,
        }
        return Answering(**{**parts, **replaced})

    def load_adapter(self, generator: Generator, variant: Variant) -> None:
        if variant.adapter not in generator.adapters():
            raise UnknownObjectError("loaded adapter", str(variant.adapter))

    def close(self) -> None:
        self.database.close()


def select_by_words(question: str, excerpts: Sequence[Excerpt]) -> list[int]:
    """An extractive engine without a model: the sentences that hold at least half of the question's words, best first."""
    words = content_words(question)
    shares = [len(words & content_words(sentence)) / max(1, len(words)) for sentence, _, _ in excerpts]
    order = sorted(range(len(excerpts)), key=lambda index: (-shares[index], index))
    return [index for index in order if shares[index] >= 0.5][:2]


class ScriptedGenerator:
    """A generator that says what it is told to, and keeps every prompt."""

    base = "double"

    def __init__(self, replies: Sequence[str], *, adapters: Sequence[str] = ()) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []
        self.batches: list[int] = []
        self._adapters = list(adapters)

    def reply(self, request: GenerationRequest) -> str:
        return self.replies.pop(0) if self.replies else ""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self.batches.append(len(requests))
        made = []
        for request in requests:
            if request.adapter is not None and request.adapter not in self._adapters:
                raise UnknownObjectError("loaded adapter", request.adapter)
            prompt = "\n".join(message.content for message in request.messages)
            self.prompts.append(prompt)
            text = self.reply(request)
            made.append(Generation(text, len(prompt.split()), len(text.split()), "stop"))
        return made

    def stream(self, request: GenerationRequest) -> Iterator[str]:
        yield self.generate([request])[0].text

    def load_adapter(self, name: str, folder: Path) -> None:
        self._adapters.append(name)

    def unload_adapter(self, name: str) -> None:
        self._adapters = [other for other in self._adapters if other != name]

    def adapters(self) -> list[str]:
        return sorted(self._adapters)


class HostileGenerator(ScriptedGenerator):
    """A model that invents quotes and links, splices true sentences and imitates markers; seeded."""

    def __init__(self, seed: int, *, known: Sequence[str] = ()) -> None:
        super().__init__([])
        self._rng = random.Random(seed)
        self._known = list(known)

    def reply(self, request: GenerationRequest) -> str:
        rng, prompt = self._rng, request.messages[-1].content
        words = prompt.split()
        cut = rng.randrange(len(words)) if words else 0
        lies = [
            'The document says "the fee is 9,999 euros" [1].',
            "Click https://evil.example/?q=" + "".join(rng.choices("abcdef", k=6)) + " [1]",
            "![x](https://evil.example/a.png)",
            "[1]: https://evil.example 'see'",
            " ".join(words[cut : cut + 4]) + " not " + " ".join(words[cut + 4 : cut + 9]) + ".",
            '"' + " ".join(words[cut : cut + 2] + words[-3:]) + '" [2]',
            " ".join(words[cut : cut + 12]).replace("e", "\u0435"),
            "<script>alert(1)</script> [99]",
            "\ud800\x00\u202e drop table answer [1]",
            '{"product": "https://evil.example", "reason": "refund", "reference": null}',
            '{"tool": "delete", "arguments": {}}',
            " ".join(self._known) + " [1]",
        ]
        return "\n".join(rng.choices(lies, k=rng.randrange(1, 6)))
