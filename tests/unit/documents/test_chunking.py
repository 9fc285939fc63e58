"""What chunks promise, checked on generated documents; what an edit may change, counted over many edits."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affinage.documents.blocks import Block, ExtractedDocument
from affinage.documents.chunking import MAX_LENGTH, MIN_LENGTH, split
from affinage.documents.chunks import Chunk


def count_tokens(text: str) -> int:
    """As a word-piece tokenizer would: pieces of four characters, and two special tokens."""
    return 2 + sum(-(-len(word) // 4) for word in text.split())


def document(*blocks: Block) -> ExtractedDocument:
    return ExtractedDocument("t", "fr", blocks)


def chunks_of(*blocks: Block, max_tokens: int = 256) -> list[Chunk]:
    return split(document(*blocks), count_tokens=count_tokens, max_tokens=max_tokens)


def heading(text: str, level: int = 1) -> Block:
    return Block("heading", text, level=level)


def paragraph(text: str, page: int | None = None) -> Block:
    return Block("paragraph", text, page=page)


def prose(rng: random.Random, sentences: int) -> str:
    words = "le la demande congé agent service délai document pièce jours avant après signature chef bureau accord refus motif droit"
    return " ".join(
        " ".join(
            rng.choice(words.split()) + rng.choice(["", "", "s", str(rng.randint(0, 99))]) for _ in range(rng.randint(4, 22))
        ).capitalize()
        + "."
        for _ in range(sentences)
    )


def test_sections_are_never_mixed_and_headings_stand_before_their_text() -> None:
    first, second = chunks_of(heading("Guide"), heading("Congés", 2), paragraph("Un."), heading("Paie", 2), paragraph("Deux."))
    assert (first.text, first.heading, first.embed_text) == ("Un.", "Guide > Congés", "Guide > Congés\nUn.")
    assert (second.text, second.heading, second.embed_text) == ("Deux.", "Guide > Paie", "Guide > Paie\nDeux.")


def test_a_heading_with_nothing_below_it_is_embedded_once() -> None:
    found = chunks_of(heading("Guide"), heading("Vide", 2), heading("Suite", 2), paragraph("Texte."))
    assert [chunk.embed_text for chunk in found] == ["Guide\nVide", "Guide > Suite\nTexte."]
    assert [chunk.embed_text for chunk in chunks_of(heading("Seul"))] == ["Seul"]


def test_a_heading_too_long_for_the_path_is_text() -> None:
    long = "mot " * 100
    found = chunks_of(heading(long.strip()), paragraph("Texte."))
    assert "".join(chunk.text for chunk in found).count("mot") == 100


def test_a_table_is_cut_by_rows_and_repeats_its_header_in_the_embedded_text_only() -> None:
    rows = (("Grade", "Jours"), *((f"Grade numéro {n}", f"{n} jours de congé annuel") for n in range(60)))
    found = chunks_of(Block("table", "\n".join(" | ".join(row) for row in rows), rows=rows))
    assert len(found) > 2
    assert found[0].embed_text == found[0].text
    for chunk in found[1:]:
        assert chunk.embed_text == "Grade | Jours\n" + chunk.text
        assert all(line in {" | ".join(row) for row in rows} for line in chunk.text.split("\n"))


def test_the_page_of_a_chunk_is_that_of_its_first_block() -> None:
    assert [chunk.page for chunk in chunks_of(paragraph("Un.", 3), paragraph("Deux.", 4))] == [3]


def test_spans_are_the_pieces_of_blocks() -> None:
    doc = document(paragraph("Un."), paragraph("Deux."))
    (chunk,) = split(doc, count_tokens=count_tokens, max_tokens=256)
    assert [doc.text[start:end] for start, end in chunk.spans] == ["Un.", "Deux."]


def test_neither_the_position_nor_what_stands_elsewhere_enters_a_chunk() -> None:
    tail = [heading("Fin"), paragraph("La même phrase.")]
    assert chunks_of(paragraph("Un début."), *tail)[-1].embed_text == chunks_of(*tail)[-1].embed_text


def test_tokens_are_counted_about_once_a_chunk() -> None:
    asked = []
    doc = document(*(paragraph(prose(random.Random(n), 5)) for n in range(200)))
    found = split(doc, count_tokens=lambda text: asked.append(text) or count_tokens(text), max_tokens=512)
    assert len(asked) <= 1.1 * len(found)


def test_chunk_lengths_stay_between_the_bounds() -> None:
    found = chunks_of(*(paragraph(prose(random.Random(n), 4)) for n in range(300)), max_tokens=512)
    assert max(len(chunk.text) for chunk in found) <= MAX_LENGTH
    assert min(len(chunk.text) for chunk in found) >= 0.8 * MIN_LENGTH
    assert sum(len(chunk.text) for chunk in found) / len(found) > MIN_LENGTH


@pytest.mark.parametrize("text", ["mot " * 5000, "x" * 20_000, "漢字" * 5000, "Oui. " * 5000, "a\n" * 5000, "0123456789" * 2000])
@pytest.mark.parametrize("max_tokens", [16, 256])
def test_text_without_good_places_to_cut_is_embedded_whole(text: str, max_tokens: int) -> None:
    found = chunks_of(paragraph(text), max_tokens=max_tokens)
    assert "".join("".join(chunk.text.split()) for chunk in found) == "".join(text.split())
    assert all(count_tokens(chunk.embed_text) <= max_tokens for chunk in found)


WORDS = st.text(alphabet="abcé.!? \n'-", min_size=1, max_size=60)
PIECE = st.one_of(WORDS, WORDS.map(lambda text: (text + " ") * 40), st.integers(1, 3000).map(lambda n: "x" * n))
TEXTS = PIECE.filter(lambda text: bool(text.strip()))
BLOCKS = st.one_of(
    st.builds(lambda text, level: Block("heading", text, level=level), TEXTS, st.integers(1, 6)),
    st.builds(lambda text: Block("paragraph", text), TEXTS),
    st.builds(lambda text: Block("code", text), TEXTS),
    st.lists(st.tuples(st.text("abc", max_size=200), st.text("12", min_size=1, max_size=20)), min_size=1, max_size=30).map(
        lambda rows: Block("table", "\n".join(" | ".join(row) for row in rows), rows=tuple(rows))
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(BLOCKS, max_size=12), st.sampled_from([12, 40, 256]))
def test_no_text_is_lost_doubled_or_beyond_the_embedder(blocks: list[Block], max_tokens: int) -> None:
    doc = document(*blocks)
    found = split(doc, count_tokens=count_tokens, max_tokens=max_tokens)
    seen: Counter[int] = Counter()
    for chunk in found:
        assert chunk.text == doc.text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        assert len(chunk.text) <= MAX_LENGTH
        assert count_tokens(chunk.embed_text) <= max_tokens or len(chunk.text) == 1
        assert chunk.embed_text.endswith(chunk.text)
        assert chunk.spans == tuple(
            (max(start, chunk.start), min(end, chunk.end)) for start, end in doc.spans() if start < chunk.end and end > chunk.start
        )
        seen.update(range(chunk.start, chunk.end))
    assert [chunk.start for chunk in found] == sorted(chunk.start for chunk in found)
    embedded = "\n".join(chunk.embed_text for chunk in found)
    for block, (start, end) in zip(doc.blocks, doc.spans(), strict=True):
        places = [place for place in range(start, end) if not doc.text[place].isspace()]
        counts = {seen[place] for place in places}
        assert counts == {1} or (block.kind == "heading" and counts == {0} and " ".join(block.text.split()) in embedded)
    assert found == split(doc, count_tokens=count_tokens, max_tokens=max_tokens)


def changed(before: list[Chunk], after: list[Chunk]) -> int:
    """Chunks that have to be embedded, or that have to go."""
    old, new = (Counter(chunk.embed_text for chunk in found) for found in (before, after))
    return max(sum((new - old).values()), sum((old - new).values()))


def as_paragraphs(texts: list[str]) -> list[Block]:
    return [paragraph(text) for text in texts]


def as_one_line(texts: list[str]) -> list[Block]:
    return [paragraph(" ".join(texts))]


def as_words(texts: list[str]) -> list[Block]:
    return [paragraph(" ".join(texts).replace(".", "").lower())]


@pytest.mark.parametrize("shape", [as_paragraphs, as_one_line, as_words])
@pytest.mark.parametrize("max_tokens", [512, 200])
def test_a_paragraph_inserted_anywhere_changes_at_most_three_chunks_and_seldom_four(shape, max_tokens: int) -> None:
    rng = random.Random(7)
    counts: Counter[int] = Counter()
    for _ in range(100):
        texts = [prose(rng, rng.randint(1, 5)) for _ in range(25)]
        place = rng.randint(0, len(texts))
        before = chunks_of(*shape(texts), max_tokens=max_tokens)
        after = chunks_of(*shape([*texts[:place], prose(rng, rng.randint(1, 2)), *texts[place:]]), max_tokens=max_tokens)
        counts[changed(before, after)] += 1
    # Four come when the inserted sentence takes the place of an anchor on either side: measured on 1,500 insertions, 0.4 %.
    assert sum(count for number, count in counts.items() if number > 3) <= 1, counts
    assert max(counts) <= 4, counts
