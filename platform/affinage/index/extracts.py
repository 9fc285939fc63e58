"""Extracted documents as blobs, so that a text is shown and an index rebuilt without reading the source again."""

from __future__ import annotations

import json

from affinage.blobs import BlobStore, digest_of
from affinage.documents.blocks import Block, ExtractedDocument


def encode(document: ExtractedDocument, *, source: str, extractor: str) -> tuple[str, bytes]:
    """Hash and bytes of an extract.

    The source belongs to it: under its lease nobody else can refer to, or remove, the same blob.
    """
    # `asdict` copies deeply, which is most of the work for a long document.
    content = {"source": source, "extractor": extractor, **vars(document), "blocks": [vars(block) for block in document.blocks]}
    data = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    return digest_of(data), data


def blob_name(extract_hash: str) -> str:
    """Name of the blob."""
    return f"extracts/{extract_hash}.json"


def load(blobs: BlobStore, extract_hash: str) -> tuple[ExtractedDocument, str]:
    """The extracted document, and the fingerprint of the extraction that made it."""
    content = json.loads(blobs.get(blob_name(extract_hash)))
    blocks = tuple(Block(**{**b, "rows": None if b["rows"] is None else tuple(map(tuple, b["rows"]))}) for b in content["blocks"])
    document = ExtractedDocument(title=content["title"], language=content["language"], blocks=blocks, ocr_pages=tuple(content["ocr_pages"]))
    return document, content["extractor"]
