"""XML as trees, by lxml, and the zip files that office programs keep it in. Nothing outside the document is ever looked up.

No entity is replaced, no DTD is read, no address is opened, and libxml2's own bounds on depth and length stay on. What a
file says it unpacks to is checked before anything is unpacked.
"""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from affinage.documents.extraction.limits import MAX_UNPACKED_BYTES, MAX_UNPACKED_XML_BYTES
from affinage.errors import DocumentError

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Start of the container in which Office keeps encrypted documents, and all documents before 2007.
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_ENCRYPTED_ENTRY = 0x1
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def parse(data: bytes) -> Any:
    """The root element.

    Raises
    ------
    ValueError
        If it is not well-formed, or goes beyond libxml2's bounds.
    """
    from lxml import etree  # noqa: PLC0415 - heavy

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True, recover=False
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from error


def local(element: Any) -> str:
    """The element's name without its namespace; empty for what is no element (an entity that was not replaced)."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str, default: str = "") -> str:
    """The attribute of that name in any namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return default


def named(element: Any, *names: str) -> Iterator[Any]:
    """Children with one of these names, in any namespace."""
    return (child for child in element.iterchildren() if local(child) in names)


def descendants(element: Any, *names: str) -> Iterator[Any]:
    """Elements below with one of these names, in any namespace, in document order."""
    return (child for child in element.iterdescendants() if local(child) in names)


class Package:
    """An office document: parts in a zip file.

    Raises
    ------
    DocumentError
        `password`, `damaged`, or `too_large` when it would unpack to more than the limits.
    """

    def __init__(self, data: bytes, *, path: str, kind: str, suffix: str) -> None:
        self._path, self._kind, self._suffix = path, kind, suffix
        if data.startswith(OLE):
            if _ENCRYPTED_STREAM in data:
                raise self.password()
            raise self.damaged("it is an Office file from before 2007")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise self.damaged("it is not a zip file") from error
        parts = self._zip.infolist()
        if any(part.flag_bits & _ENCRYPTED_ENTRY for part in parts):
            raise self.password()
        # `zipfile` reads no more of a part than the size it states.
        total = sum(part.file_size for part in parts)
        xml = sum(part.file_size for part in parts if part.filename.lower().endswith((".xml", ".rels")))
        if total > MAX_UNPACKED_BYTES or xml > MAX_UNPACKED_XML_BYTES:
            message = f"{path} unpacks to {total} bytes ({xml} of XML), more than a document may have."
            raise DocumentError(path, "too_large", message, hint="Split it, or make its images smaller.")
        self._names = {part.filename for part in parts}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def tree(self, name: str) -> Any:
        """The root of the part called `name`."""
        try:
            return parse(self._zip.read(name))
        except (KeyError, ValueError, zipfile.BadZipFile, OSError, EOFError, NotImplementedError, zlib.error, lzma.LZMAError) as error:
            raise self.damaged(f"its part {name} cannot be read") from error

    def relations(self, name: str) -> dict[str, str]:
        """Relation to part, of the part called `name` (Office only); what lies outside the file is left out."""
        folder, _, file = name.rpartition("/")
        listed = f"{folder}/_rels/{file}.rels"
        if listed not in self:
            return {}
        found = {}
        for relation in named(self.tree(listed), "Relationship"):
            if relation.get("TargetMode") != "External":
                target = relation.get("Target", "")
                found[relation.get("Id", "")] = target[1:] if target.startswith("/") else _resolved(folder, target)
        return found

    def title(self, name: str) -> str:
        """The title in the part that holds the properties."""
        if name not in self:
            return ""
        return next((element.text or "" for element in descendants(self.tree(name), "title")), "")

    def password(self) -> DocumentError:
        """The error for an encrypted document."""
        hint = "Save a copy without password in the source."
        return DocumentError(self._path, "password", f"{self._path} is protected by a password.", hint=hint)

    def damaged(self, why: str) -> DocumentError:
        """The error for a document that cannot be read."""
        hint = f"Open it in the program that made it and save it anew as {self._suffix}."
        return DocumentError(self._path, "damaged", f"{self._path} is not a readable {self._kind}: {why}.", hint=hint)


def _resolved(folder: str, target: str) -> str:
    parts = folder.split("/")
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
