"""The documents of the fictitious Communauté de communes du Val d'Orme, written for this repository.

`data/` holds them as plain text with their questions, `reading.py` parses it, one module a format renders it, and
`writing.py` puts a folder on disk and makes the edits that an incremental run is shown on. Everything is invented.
Called by the demo only; the product knows nothing of it.
"""

from affinage.demo.corpus.reading import SOURCE, DemoDocument, Subject, demo_subjects
from affinage.demo.corpus.writing import Corpus, delete_one, edit_one_paragraph, rename_one, write_corpus

__all__ = [
    "SOURCE",
    "Corpus",
    "DemoDocument",
    "Subject",
    "delete_one",
    "demo_subjects",
    "edit_one_paragraph",
    "rename_one",
    "write_corpus",
]
