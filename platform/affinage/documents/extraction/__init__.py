"""From the bytes of one document to blocks of text in reading order, each with its page where the format has pages.

`dispatch.py` chooses the module by the file's suffix and turns blocks into a document with a title and a language;
`decoding.py` reads bytes as text and cleans it for all formats. `pool.py` does the same in processes that can be killed
(`worker.py`, with limits on time and memory): whoever reads documents of others goes through it. Called by `index` and by
`affinage extract`; knows nothing of sources, chunks or rights. The result depends on the bytes, the suffix and the declared
mapping of XML only: it can be cached by them.
"""

from affinage.documents.extraction.dispatch import (
    SUPPORTED_SUFFIXES,
    Extract,
    extract,
    extract_fingerprint,
    format_of,
    reader_fingerprint,
)
from affinage.documents.extraction.limits import MAX_BYTES

__all__ = ["MAX_BYTES", "SUPPORTED_SUFFIXES", "Extract", "extract", "extract_fingerprint", "format_of", "reader_fingerprint"]
