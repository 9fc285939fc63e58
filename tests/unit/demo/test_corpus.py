"""The corpus: enough documents, in several formats, that say different things, with answers that stand in them."""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from affinage.demo.corpus import (
    Corpus,
    delete_one,
    demo_subjects,
    edit_one_paragraph,
    rename_one,
    write_corpus,
)
from affinage.demo.corpus.reading import parse_subject
from affinage.demo.corpus.writing import EDITED_FROM, EDITED_TO, SCANNED_PATH
from affinage.demo.questions import questions, unanswerable_questions
from affinage.documents.blocks import ExtractedDocument
from affinage.documents.extraction import extract
from affinage.errors import DocumentError

DOCUMENTS = [document for subject in demo_subjects() for document in subject.documents]
HEADER = "person: ada\nservice: Test\nfolder: public/test\nlanguage: fr\n\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, write_corpus(folder)


@pytest.fixture(scope="module")
def extracted(written: tuple[Path, Corpus]) -> dict[str, ExtractedDocument]:
    folder, _ = written
    return {document.path: extract((folder / document.path).read_bytes(), path=document.path) for document in DOCUMENTS}


def test_there_are_at_least_150_documents_in_five_formats_and_a_scan(written: tuple[Path, Corpus]) -> None:
    folder, corpus = written
    assert corpus.documents == sum(1 for file in folder.rglob("*") if file.is_file()) >= 150
    assert corpus.by_format.keys() == {"docx", "html", "md", "pdf", "scan", "txt"}
    assert min(count for name, count in corpus.by_format.items() if name != "scan") >= 25
    assert corpus.questions == len(questions())


def test_a_quarter_is_english_and_four_fifths_are_public() -> None:
    english = sum(document.language == "en" for document in DOCUMENTS) / len(DOCUMENTS)
    public = sum(document.path.startswith("public/") for document in DOCUMENTS) / len(DOCUMENTS)
    assert 0.2 <= english <= 0.3
    assert 0.75 <= public <= 0.85


def test_extraction_gives_back_each_answer_within_one_block(extracted: dict[str, ExtractedDocument]) -> None:
    blocks = {f"handbook/{path}": [block.text for block in document.blocks] for path, document in extracted.items()}
    lost = [q.answer_sentence for q in questions() if not any(q.answer_sentence in text for text in blocks[q.document])]
    assert lost == []


def test_extraction_finds_the_title_and_the_language(extracted: dict[str, ExtractedDocument]) -> None:
    assert {path: (document.title, document.language) for path, document in extracted.items()} == {
        document.path: (document.title, document.language) for document in DOCUMENTS
    }


def test_some_answers_stand_beyond_the_first_page(extracted: dict[str, ExtractedDocument]) -> None:
    assert any(block.page == 2 for document in extracted.values() for block in document.blocks)


def test_the_scanned_page_has_no_text_without_recognition(written: tuple[Path, Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = written
    monkeypatch.setattr("affinage.documents.extraction.tesseract.languages", tuple)
    with pytest.raises(DocumentError):
        extract((folder / SCANNED_PATH).read_bytes(), path=SCANNED_PATH)


def test_writing_twice_gives_the_same_bytes(written: tuple[Path, Corpus], tmp_path: Path) -> None:
    folder, _ = written
    write_corpus(tmp_path)
    different = [
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.read_bytes() != (tmp_path / file.relative_to(folder)).read_bytes()
    ]
    assert different == []


def test_no_sentence_stands_in_more_than_five_documents() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for document in DOCUMENTS:
        for sentence in re.split(r"(?<=[.!?])\s+|\n", document.text()):
            # Headings and cells are labels; a sentence has a verb's worth of words.
            if len(sentence.split()) >= 4:
                places[sentence].add(document.path)
    assert max(len(paths) for paths in places.values()) <= 5


def test_documents_share_few_words_on_average() -> None:
    # Jaccard similarity of the sets of words of four letters and more; templates filled with other names reach 0.5.
    words = [frozenset(re.findall(r"\w{4,}", document.text().lower())) for document in DOCUMENTS]
    pairs = [len(a & b) / len(a | b) for number, a in enumerate(words) for b in words[:number]]
    assert np.mean(pairs) < 0.05
    assert max(pairs) < 0.35


def test_documents_are_short_texts_of_several_sections() -> None:
    for document in DOCUMENTS:
        assert 50 <= len(document.text().split()) <= 250, document.path
        assert 2 <= sum(block.kind == "heading" for block in document.blocks) <= 6, document.path


def test_names_of_files_are_used_once() -> None:
    assert max(Counter(document.path for document in DOCUMENTS).values()) == 1


def test_no_document_or_question_holds_an_address_or_a_telephone_number() -> None:
    everything = "\n".join([*(document.text() for document in DOCUMENTS), *(question.text for question in questions())])
    assert re.findall(r"\S+@\S+|(?:\d{2}[ .]){4}\d{2}|https?://", everything) == []


def test_questions_do_not_repeat_the_sentence_that_answers_them() -> None:
    def overlap(text: str, sentence: str) -> float:
        asked, said = (frozenset(re.findall(r"\w{4,}", part.lower())) for part in (text, sentence))
        return len(asked & said) / len(said)

    shares = [overlap(question.text, question.answer_sentence) for question in questions()]
    assert np.mean(shares) < 0.15
    assert max(shares) <= 0.6


def test_each_document_is_asked_about_three_to_five_times_in_its_language() -> None:
    counts = Counter(question.document for question in questions())
    assert set(counts.values()) <= {3, 4, 5}
    assert len(counts) >= 150
    assert len({question.text for question in questions()}) == len(questions())


def test_questions_without_answer_come_in_both_languages() -> None:
    assert 8 <= len(unanswerable_questions()) <= 10
    assert {question.language for question in unanswerable_questions()} == {"en", "fr"}


def test_the_changes_touch_what_they_say_and_no_question(written: tuple[Path, Corpus], tmp_path: Path) -> None:
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    edited = edit_one_paragraph(tmp_path)
    text = (tmp_path / edited).read_text(encoding="utf-8")
    assert EDITED_TO in text
    assert EDITED_FROM not in text
    assert all(question.answer_sentence in text for question in questions() if question.document == f"handbook/{edited}")
    old, new = rename_one(tmp_path)
    gone = delete_one(tmp_path)
    assert not (tmp_path / old).exists()
    assert (tmp_path / new).is_file()
    assert not (tmp_path / gone).exists()
    assert {old, gone}.isdisjoint(question.document.removeprefix("handbook/") for question in questions())


def test_editing_twice_is_refused(written: tuple[Path, Corpus], tmp_path: Path) -> None:
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    edit_one_paragraph(tmp_path)
    with pytest.raises(ValueError, match=r"decheterie\.md"):
        edit_one_paragraph(tmp_path)


def test_a_data_file_without_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="service"):
        parse_subject("person: ada\n\n=== a.md | A\n# B\nC.\n", origin="a.txt")


def test_a_broken_mark_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.md holds a mark"):
        parse_subject(HEADER + "=== a.md | A\n# B\n[[C.|D ?]]\n", origin="a.txt")


def test_marks_leave_the_sentence_in_the_text_and_the_question_out() -> None:
    document = parse_subject(HEADER + "=== a.md | A\n# B\nAvant. [[Oui, lundi.||Quand ?]] Après.\n", origin="a.txt").documents[0]
    assert document.text() == "A\nB\nAvant. Oui, lundi. Après."
    assert document.asked == (("Quand ?", "Oui, lundi."),)
