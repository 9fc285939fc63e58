"""What the simulated agents ask the `guichet` assistant, with the sentence that answers each question."""

from __future__ import annotations

from dataclasses import dataclass

from affinage.demo.corpus.reading import demo_subjects


@dataclass(frozen=True)
class Question:
    """One question: who asks it, and the verbatim sentence of which document answers it."""

    user: str
    text: str
    document: str
    answer_sentence: str
    language: str


@dataclass(frozen=True)
class Unanswerable:
    """A question about something that no document of the corpus speaks of."""

    text: str
    language: str


_UNANSWERABLE = (
    Unanswerable("Quelle est la capitale de la Mongolie ?", "fr"),
    Unanswerable("Comment remplacer la courroie de distribution d'un tracteur ?", "fr"),
    Unanswerable("Qui a remporté le tournoi de pétanque de Brissonne en 1987 ?", "fr"),
    Unanswerable("Quel dosage d'antibiotique pour une infection urinaire ?", "fr"),
    Unanswerable("Peut-on obtenir une licence de pilote de drone à l'hippodrome ?", "fr"),
    Unanswerable("What is the boiling point of nitrogen?", "en"),
    Unanswerable("Which vaccine does my horse need before a race in Dubai?", "en"),
    Unanswerable("How do I reset the tyre pressure warning on a rental car?", "en"),
    Unanswerable("Who wrote the opera that opens the Salzburg festival this summer?", "en"),
)


def questions() -> tuple[Question, ...]:
    """Every question, subject by subject; each document's questions are asked by one agent only."""
    return tuple(
        Question(document.person, text, document.key, sentence, document.language)
        for subject in demo_subjects()
        for document in subject.documents
        for text, sentence in document.asked
    )


def unanswerable_questions() -> tuple[Unanswerable, ...]:
    """Questions to which the only right answer is "I don't know"."""
    return _UNANSWERABLE
