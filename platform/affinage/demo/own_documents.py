"""The tour on documents that nobody here wrote: questions are made from their own headings.

A heading with its document's title is the question, the first sentence below it the answer. That is what people type into a search
box, and enough to show every step; how well it goes depends on the documents, so a refused gate is reported and the tour goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from affinage.database.tables.index import chunk, document
from affinage.demo.declarations import GUICHET
from affinage.demo.declarations import declarations as invented_declarations
from affinage.demo.questions import Question
from affinage.demo.tour import Tour
from affinage.documents.sentences import sentence_spans
from affinage.index.generations import serving_generations
from affinage.serving.answering import AskRequest

SOURCE = "handbook"
DOCUMENTS_PER_AGENT = 5
QUESTIONS_PER_DOCUMENT = 4
MIN_SENTENCE_CHARS = 30
# Shorter ones are labels and list marks: quoting them says nothing.


def declarations(folder: Path) -> dict[str, Any]:
    """The demo's declarations with one public source at `folder`."""
    declared = invented_declarations(folder)
    source = {**declared["sources"][0], "access": [{"match": "**", "allow": ["everyone"]}]}
    return {**declared, "sources": [source]}


def edits(folder: Path) -> dict[str, Callable[[Path], object]]:
    """A paragraph added to one text document of the copy, where there is one."""
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in {".md", ".txt"} and path.is_file()]
    if not found:
        return {}

    def add_paragraph(_folder: Path) -> str:
        with found[0].open("a", encoding="utf-8") as file:
            file.write("\n\nThis paragraph was added to the copy by the demo, to show what an edit costs.\n")
        return str(found[0].relative_to(folder))

    return {"edit": add_paragraph}


def questions(tour: Tour) -> list[Question]:
    """At most four questions a document; the documents of one agent are asked about by nobody else."""
    made: list[Question] = []
    asked: dict[str, int] = {}
    agents: dict[str, str] = {}
    with tour.app.database.read() as connection:
        generations = serving_generations(connection, [SOURCE])
        rows = connection.execute(
            select(chunk.c.doc_key, chunk.c.heading, chunk.c.text, document.c.path, document.c.title, document.c.language)
            .join(document, document.c.doc_key == chunk.c.doc_key)
            .where(chunk.c.generation_id.in_(generations.values()))
            .order_by(document.c.path, chunk.c.ordinal)
        ).all()
    for row in rows:
        sentence = next((row.text[a:b] for a, b in sentence_spans(row.text) if b - a >= MIN_SENTENCE_CHARS), None)
        if sentence is None or asked.get(row.doc_key, 0) >= QUESTIONS_PER_DOCUMENT:
            continue
        heading = row.heading or " ".join(row.text.split()[:8])
        agent = agents.setdefault(row.doc_key, f"agent-{len(agents) // DOCUMENTS_PER_AGENT:02d}")
        text = heading if row.title and row.title in heading else f"{heading} ({row.title})"
        made.append(Question(agent, text, f"{SOURCE}/{row.path}", sentence, row.language or "fr"))
        asked[row.doc_key] = asked.get(row.doc_key, 0) + 1
    return made


def ask_around(tour: Tour) -> dict[str, Any]:
    """One question with the right to read the documents; without rights there is nobody here: all of them are public."""
    made = questions(tour)
    if not made:
        return {"question": None, "note": "no document has a sentence to ask about"}
    record = tour.app.answering.answer(AskRequest.of(GUICHET, made[0].text, user=made[0].user)).record
    return {"question": made[0].text, "known": record.known, "answer": record.text}
