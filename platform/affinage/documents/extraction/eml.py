"""E-mail (EML): subject, who wrote to whom and when, the text, and the names of what is attached. Attachments are not opened."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart

from affinage.documents.blocks import Block
from affinage.documents.extraction import html
from affinage.documents.extraction.decoding import clean, decode, lines, one_line
from affinage.documents.extraction.dispatch import Extraction
from affinage.documents.extraction.text import paragraphs
from affinage.errors import DocumentError

SHOWN = ("From", "To", "Cc", "Date")
MAX_RECIPIENTS = 500
# Characters of a list of addresses.


def read(data: bytes, *, path: str) -> Extraction:
    """Blocks of a message; its subject is the title."""
    try:
        message = email.message_from_bytes(data, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return Extraction(tuple(_blocks(message, path)), one_line(_header(message, "Subject")))
    except DocumentError:
        raise
    except Exception as error:
        # The standard parser raises what comes on headers that nobody writes.
        message_text = f"{path} is not a readable message: {type(error).__name__}."
        raise DocumentError(path, "damaged", message_text, hint="Save it anew from the mail program.") from error


def _blocks(message: EmailMessage, path: str) -> Iterator[Block]:
    if not any(name in message for name in ("From", "Subject", "Date", "Received", "Message-ID")):
        raise DocumentError(path, "damaged", f"{path} is not a message: it has no headers.", hint="Save it anew from the mail program.")
    subject = one_line(_header(message, "Subject"))
    if subject:
        yield Block("heading", subject, level=1)
    told = [f"{name}: {text}" for name in SHOWN if (text := _header(message, name))]
    if told:
        yield Block("paragraph", "\n".join(told))
    body = message.get_body(preferencelist=("plain", "html"))
    if body is not None:
        yield from _body(body, path)
    for part in message.iter_attachments():
        name = one_line(clean(part.get_filename() or part.get_content_type()))
        yield Block("list_item", f"[{name}]")


def _header(message: EmailMessage, name: str) -> str:
    text = one_line(clean(str(message.get(name, ""))))
    return text if len(text) <= MAX_RECIPIENTS or name == "Subject" else text[:MAX_RECIPIENTS].rsplit(",", 1)[0] + " …"


def _body(part: MIMEPart, path: str) -> Iterator[Block]:
    raw = part.get_payload(decode=True)
    declared = part.get_content_charset()
    text = clean(decode(raw if isinstance(raw, bytes) else b"", path=path, declared=_known(declared)))
    if part.get_content_type() == "text/html":
        yield from html.blocks_of(text)[0]
    else:
        yield from (Block(block.kind, lines(block.text)) for block in paragraphs(text))


def _known(charset: str | None) -> str | None:
    """The declared encoding, if Python has it and it is not one that mail programs mean Windows-1252 by."""
    try:
        "".encode(charset or "utf-8")
    except LookupError:
        return None
    return None if charset in (None, "us-ascii", "iso-8859-1", "latin-1") else charset
