"""How much of the structure of generated PDFs is found: the bars are those of the product's promise."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from affinage.documents.blocks import Block
from affinage.documents.chunking import split
from affinage.documents.extraction import drawn, extract
from tests.support.layouts import FOOTER, HEADER, Known, make_known_pdf


@pytest.fixture(scope="module", params=[1, 2], ids=["one column", "two columns"])
def known(request: pytest.FixtureRequest) -> Known:
    return make_known_pdf(sections=120, columns=request.param)


@pytest.fixture(scope="module")
def blocks(known: Known) -> Sequence[Block]:
    return extract(known.data, path="a.pdf").blocks


def f1(found: Iterable[object], expected: Iterable[object]) -> float:
    """Harmonic mean of precision and recall, of multisets."""
    a, b = Counter(found), Counter(expected)
    return 2 * (a & b).total() / (a.total() + b.total())


def told(what: str, share: float) -> float:
    sys.stderr.write(f"{what}: {100 * share:.2f} %\n")
    return share


def test_headings_are_found_with_their_level(known: Known, blocks: Sequence[Block]) -> None:
    found = [(block.level, block.text) for block in blocks if block.kind == "heading"]
    assert told("headings with level, F1", f1(found, [(level, text) for level, text, _ in known.headings])) >= 0.99


def test_list_items_are_found(known: Known, blocks: Sequence[Block]) -> None:
    found = [block.text for block in blocks if block.kind == "list_item"]
    assert told("list items, F1", f1(found, [text for text, _ in known.items])) >= 0.95


def test_cells_of_ruled_tables_are_found(known: Known, blocks: Sequence[Block]) -> None:
    found = [cell for block in blocks if block.rows for row in block.rows for cell in enumerate(row)]
    expected = [cell for rows, _ in known.tables for row in rows for cell in enumerate(row)]
    assert told("table cells, F1", f1(found, expected)) >= 0.95


def test_without_the_rulings_many_cells_would_be_lost(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(drawn, "rulings", lambda _page: ([], []))
    found = [cell for block in extract(known.data, path="a.pdf").blocks if block.rows for row in block.rows for cell in enumerate(row)]
    assert f1(found, [cell for rows, _ in known.tables for row in rows for cell in enumerate(row)]) < 0.8


def test_every_block_has_its_page(known: Known, blocks: Sequence[Block]) -> None:
    pages = {text: page for _, text, page in known.headings} | dict(known.items) | dict(known.paragraphs)
    found = [(block.text, block.page) for block in blocks if block.text in pages]
    assert len(found) > 0.9 * len(pages)
    assert told("pages", sum(pages[text] == page for text, page in found) / len(found)) == 1


def test_no_furniture_is_in_a_chunk(known: Known) -> None:
    chunks = split(extract(known.data, path="a.pdf"), count_tokens=lambda text: len(text) // 4, max_tokens=256)
    furniture = {HEADER, *(FOOTER.format(page=page) for page in range(1, known.pages + 1))}
    assert known.pages > 5
    assert not [line for chunk in chunks for line in furniture if line in chunk.embed_text]


def test_paragraphs_are_whole(known: Known, blocks: Sequence[Block]) -> None:
    found = [block.text for block in blocks if block.kind == "paragraph"]
    assert told("paragraphs, F1", f1(found, [text for text, _ in known.paragraphs])) >= 0.95


def test_the_rate_is_told(known: Known) -> None:
    started = time.process_time()
    extract(known.data, path="a.pdf")
    seconds = time.process_time() - started
    sys.stderr.write(f"{known.pages} pages in {seconds:.2f} s of one core: {known.pages / seconds:.0f} pages a second\n")
    assert seconds > 0
