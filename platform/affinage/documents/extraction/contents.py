"""What a file is by its first bytes, against what its suffix says. Pure."""

from __future__ import annotations

from affinage.errors import DocumentError

TEXTS = ("markdown", "html", "text", "csv", "jsonl", "xml", "eml")
_ZIPPED = ("docx", "pptx", "xlsx", "odf")
_BEGINNINGS = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a zip file, or an office document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office file from before 2007, or a protected one"),
    (b"\x89PNG\r\n", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"II*\x00", "a picture (TIFF)"),
    (b"\x1f\x8b\x08", "compressed (gzip)"),
    (b"7z\xbc\xaf", "an archive (7z)"),
    (b"Rar!\x1a", "an archive (RAR)"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"SQLite format 3\x00", "a database"),
)
_OWN = {"pdf": ("a PDF",), **dict.fromkeys(_ZIPPED, (_BEGINNINGS[1][1], _BEGINNINGS[2][1]))}
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1b\x00")
# Zero bytes are not among them: UTF-16 is full of those.
_LOOKED_AT = 4096
MAX_CONTROLS = 0.05
# Of the bytes of a text: an old one has a few, a binary file a tenth.


def refuse_misnamed(data: bytes, *, path: str, name: str) -> None:
    """Refuse what is plainly of another format than `name`, before a parser makes something of it.

    Raises
    ------
    DocumentError
        `misnamed`, which says what it looks like.
    """
    found = next((what for beginning, what in _BEGINNINGS if data.startswith(beginning)), None)
    if found is None and name in TEXTS:
        head = data[:_LOOKED_AT]
        if len(head) - len(head.translate(None, _CONTROLS)) > MAX_CONTROLS * len(head) and len(head) > 2 * len(_CONTROLS):
            found = "no text"
    if found is not None and found not in _OWN.get(name, ()):
        raise DocumentError(path, "misnamed", f"By its content, {path} is {found}.", hint="Give it the right suffix, or remove it.")
