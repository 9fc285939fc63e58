"""Documents become an index, and only what changed is embedded."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

from affinage.declarations.apply import apply_declarations
from affinage.declarations.model import load_declarations
from affinage.demo import own_documents
from affinage.demo.corpus import delete_one, edit_one_paragraph, rename_one, write_corpus
from affinage.demo.declarations import GUICHET, RIGHTS_AFTER, RIGHTS_FOLDER, change_rights, declarations, write_declarations
from affinage.demo.people import agents, cites
from affinage.demo.questions import questions, unanswerable_questions
from affinage.demo.tour import Tour
from affinage.errors import AffinageError
from affinage.identity.directory import add_member
from affinage.serving.answering import AskRequest


def corpus(tour: Tour) -> dict[str, Any]:
    """Write the documents (or copy one's own), declare them, and put the agents into their groups."""
    folder = tour.folder / "documents"
    if tour.own_documents is not None:
        shutil.copytree(tour.own_documents, folder, symlinks=True)
        formats = Counter(path.suffix.lstrip(".").lower() for path in folder.rglob("*") if path.is_file())
        written = {"documents": formats.total(), "formats": dict(sorted(formats.items()))}
        tour.facts["declared"] = own_documents.declarations(folder)
    else:
        made = write_corpus(folder)
        written = {"documents": made.documents, "formats": dict(made.by_format), "questions": made.questions}
        tour.facts["declared"] = declarations(folder)
        with tour.app.database.write() as connection:
            for agent in agents():
                for group in agent.groups:
                    add_member(connection, group=group, user=agent.name)
    return {**written, "declared": _apply(tour)}


def index(tour: Tour) -> dict[str, Any]:
    """Run the flow `index`: every document is extracted, cut and embedded once."""
    tour.server.wait()
    report = tour.flow("index").result()
    return {"status": report["status"], "documents": _some(report["documents"]), "chunks": _some(report["chunks"])}


def unchanged(tour: Tour) -> dict[str, Any]:
    """Sync again: nothing is read, nothing is embedded."""
    report = tour.app.sync().as_dict()
    return {"seen": report["documents"]["seen"], "embedded": report["chunks"]["embedded"], "seconds": report["seconds"]}


def changes(tour: Tour) -> dict[str, Any]:
    """One change after the other, each followed by a sync that says what it cost."""
    folder = tour.folder / "documents"
    result: dict[str, Any] = {}
    edits = own_documents.edits(folder) if tour.own_documents is not None else {"edit": edit_one_paragraph, "rename": rename_one}
    for name, change in edits.items():
        result[name] = _cost(tour, change(folder))
    if tour.own_documents is None:
        tour.facts["declared"] = change_rights(tour.facts["declared"])
        applied = _apply(tour)
        who = f"{RIGHTS_FOLDER}/** for {', '.join(RIGHTS_AFTER)}"
        result["rights"] = {**_cost(tour, who), "declarations_changed": applied["changed"]}
        result["delete"] = _cost(tour, delete_one(folder))
    return result


def rights(tour: Tour) -> dict[str, Any]:
    """Someone with the right and someone without ask the same question; then one that no document answers."""
    if tour.own_documents is not None:
        return own_documents.ask_around(tour)
    private = [question for question in questions() if "/public/" not in question.document]
    answered = ((question, tour.app.answering.answer(AskRequest.of(GUICHET, question.text, user=question.user))) for question in private)
    right = next(((question, answer.record) for question, answer in answered if cites(question, answer.citations())), None)
    if right is None:
        raise AffinageError("No question on a document with rights was answered.", hint="The index is broken: `affinage index verify`.")
    question, shown = right
    hidden = tour.app.answering.answer(AskRequest.of(GUICHET, question.text, user="visiteur")).record
    nothing = [tour.app.answering.answer(AskRequest.of(GUICHET, q.text, user="visiteur")).record for q in unanswerable_questions()]
    return {
        "question": question.text,
        "with_rights_known": shown.known,
        "answer": shown.text,
        "document": question.document,
        "without_rights_cited_it": any(c["document"] == question.document for c in hidden.citations),
        "without_rights_answer": hidden.text,
        "unanswerable_refused": f"{sum(not record.known for record in nothing)} of {len(nothing)}",
    }


def _apply(tour: Tour) -> dict[str, int]:
    file = tour.folder / "affinage.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_declarations(tour.facts["declared"], file)
    with tour.app.database.write() as connection:
        report = apply_declarations(connection, load_declarations(file), now=tour.app.now())
    return {what: len(names) for what, names in report.as_dict().items()}


def _cost(tour: Tour, what: object) -> dict[str, Any]:
    report = tour.app.sync().as_dict()
    chunks = report["chunks"]
    return {
        "what": " → ".join(map(str, what)) if isinstance(what, tuple) else str(what),
        "embedded": chunks["embedded"],
        "written": chunks["written"],
        "patched": chunks["patched"],
        "deleted": chunks["deleted"],
    }


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
