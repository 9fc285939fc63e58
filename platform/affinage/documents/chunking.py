"""From blocks to chunks: cut at headings, then where the content chooses (`packing.py`), then by what the embedder takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from affinage.documents.blocks import ExtractedDocument
from affinage.documents.chunks import Chunk
from affinage.documents.packing import ANCHOR_DISTANCE, LONG_SENTENCE, LONG_WORD, Atoms

VERSION = 1
# Raised when the same blocks give other chunks.
MIN_LENGTH, MAX_LENGTH = 300, 800
# Characters of a chunk. Anchors may lie a little nearer, and a shorter section is a chunk all the same.
PATH_LENGTH = 160
# Characters of the heading path in an embedded text.
HEADER_LENGTH = 200
# Characters of a table's header row repeated in an embedded text.
SPLIT_FINGERPRINT = f"split-{VERSION}:{MIN_LENGTH}-{MAX_LENGTH}-{ANCHOR_DISTANCE}-{LONG_SENTENCE}-{LONG_WORD}-{PATH_LENGTH}-{HEADER_LENGTH}"

PATH_SEPARATOR = " > "
_SPECIAL_TOKENS = 8
# More than any tokenizer puts around a text.


@dataclass
class _Heading:
    """A heading, by its block, and the headings it stands under."""

    block: int
    level: int
    above: tuple[_Heading, ...]
    embedded: bool = False


@dataclass
class _Section:
    """The blocks below a heading, up to the next one. `path` are the headings written before its chunks."""

    headings: tuple[_Heading, ...]
    blocks: list[int] = field(default_factory=list)
    path: list[_Heading] = field(default_factory=list)


def split(document: ExtractedDocument, *, count_tokens: Callable[[str], int], max_tokens: int) -> list[Chunk]:
    """Cut `document` into chunks, in order.

    Every character that is not white space is in exactly one chunk's `text`, or in a heading that stands in the
    `embed_text` of a chunk below it. A paragraph inserted anywhere changes the chunks around it only.

    Parameters
    ----------
    count_tokens
        Tokens of a text, special ones included. Asked some once for each chunk: it is the costly part.
    max_tokens
        What the embedder takes. No `embed_text` has more, but a single character that alone has more.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; expected at least 1")
    return list(_Splitter(document, count_tokens, max_tokens).chunks())


class _Splitter:
    """One document on its way."""

    def __init__(self, document: ExtractedDocument, count_tokens: Callable[[str], int], max_tokens: int) -> None:
        self.blocks = document.blocks
        self.spans = document.spans()
        self.text = document.text
        self._count_tokens = count_tokens
        self.max_tokens = max_tokens

    def chunks(self) -> Iterator[Chunk]:
        """The chunks of all sections. A heading that no section's path holds becomes text of its own section."""
        sections = self._sections()
        for section in sections:
            if section.blocks:
                section.path = self._path(section.headings)
                for heading in section.path:
                    heading.embedded = True
        for section in sections:
            own = section.headings[-1] if section.headings else None
            if own is not None and not own.embedded:
                section.path = section.path or self._path(own.above)
                section.blocks.insert(0, own.block)
            if section.blocks:
                yield from self._pack(section)

    def _sections(self) -> list[_Section]:
        sections = [_Section(())]
        for number, block in enumerate(self.blocks):
            if block.kind == "heading":
                level = block.level or 6
                above = tuple(heading for heading in sections[-1].headings if heading.level < level)
                sections.append(_Section((*above, _Heading(number, level, above))))
            else:
                sections[-1].blocks.append(number)
        return sections

    def _path(self, headings: Sequence[_Heading]) -> list[_Heading]:
        """The innermost headings that fit, each whole: in `PATH_LENGTH`, and in a third of the tokens."""
        kept: list[_Heading] = []
        for heading in reversed(headings):
            if len(self.joined([heading, *kept])) > PATH_LENGTH:
                break
            kept.insert(0, heading)
        while kept and not self.fits(self.joined(kept), self.max_tokens // 3):
            kept.pop(0)
        return kept

    def joined(self, headings: Sequence[_Heading]) -> str:
        """The texts of headings as one line."""
        return PATH_SEPARATOR.join(" ".join(self.blocks[heading.block].text.split()) for heading in headings)

    def fits(self, text: str, tokens: int) -> bool:
        """Whether `text` has at most `tokens` tokens."""
        # No tokenizer makes more tokens than bytes, beside the special ones: a short text need not be counted.
        return len(text.encode()) + _SPECIAL_TOKENS <= tokens or self._count_tokens(text) <= tokens

    def _pack(self, section: _Section) -> Iterator[Chunk]:
        """Cut the section's atoms into runs, depth first and so in order, until each is a chunk that fits."""
        make = _ChunkMaker(self, section)
        atoms = Atoms(self.text)
        for number in section.blocks:
            atoms.add(*self.spans[number], by_line=self.blocks[number].kind in ("code", "table"))
        pending = atoms.runs()[::-1]
        while pending:
            first, last = pending.pop()
            chunk = make(atoms.starts[first], atoms.ends[last - 1])
            if chunk is not None:
                yield chunk
            elif last - first > 1:
                # What is short and has too many tokens all the same is halved.
                length = atoms.ends[last - 1] - atoms.starts[first]
                shortest, longest = (MIN_LENGTH, MAX_LENGTH) if length > MAX_LENGTH else (length // 3, length)
                cut = atoms.cut(first, last, shortest=shortest, longest=longest)
                pending += [(cut, last), (first, cut)]
            else:
                yield from self._halves(make, atoms.starts[first], atoms.ends[first])

    def _halves(self, make: _ChunkMaker, start: int, end: int) -> Iterator[Chunk]:
        """One atom that is too long by itself: cut near its middle, at a space if there is one."""
        pending = [(start, end)]
        while pending:
            start, end = self._trimmed(*pending.pop())
            if start == end:
                continue
            chunk = make(start, end, whatever=end - start == 1)
            if chunk is not None:
                yield chunk
                continue
            middle = (start + end) // 2
            space = self.text.rfind(" ", max(start + 1, middle - (end - start) // 4), middle + 1)
            cut = space if space > start else middle
            pending += [(cut, end), (start, cut)]

    def _trimmed(self, start: int, end: int) -> tuple[int, int]:
        while start < end and self.text[start].isspace():
            start += 1
        while end > start and self.text[end - 1].isspace():
            end -= 1
        return start, end


class _ChunkMaker:
    """Makes the chunks of one section. They are asked for with rising starts."""

    def __init__(self, splitter: _Splitter, section: _Section) -> None:
        self._splitter = splitter
        self._blocks = section.blocks
        self._path = splitter.joined(section.path)
        self._heading = splitter.joined(section.headings)
        self._block = 0

    def __call__(self, start: int, end: int, *, whatever: bool = False) -> Chunk | None:
        """The chunk between two offsets; None when it is too long, unless the caller takes `whatever` comes."""
        if end - start > MAX_LENGTH:
            return None
        splitter = self._splitter
        while splitter.spans[self._blocks[self._block]][1] <= start:
            self._block += 1
        covered = list(takewhile(lambda number: splitter.spans[number][0] < end, self._blocks[self._block : self._block + MAX_LENGTH]))
        text = splitter.text[start:end]
        embed_text = "\n".join(part for part in (self._path, self._header(covered[0], start), text) if part)
        if not splitter.fits(embed_text, splitter.max_tokens):
            if not whatever:
                return None
            embed_text = text
        spans = tuple((max(start, splitter.spans[number][0]), min(end, splitter.spans[number][1])) for number in covered)
        page = splitter.blocks[covered[0]].page
        return Chunk(text=text, embed_text=embed_text, start=start, end=end, page=page, heading=self._heading, spans=spans)

    def _header(self, number: int, start: int) -> str:
        """The header row, for a chunk that starts further down in a table."""
        block = self._splitter.blocks[number]
        if block.rows is None:
            return ""
        header = block.text.split("\n", 1)[0] if len(block.rows) > 1 else ""
        below = start > self._splitter.spans[number][0] + len(header)
        fits = len(header) <= HEADER_LENGTH and self._splitter.fits(header, self._splitter.max_tokens // 3)
        return header if below and fits else ""
