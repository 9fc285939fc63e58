"""The prompt shelf: templates, and how questions and passages become part of a prompt.

What users and documents wrote is data: it is put into a placeholder in one pass, so a placeholder inside it stays text,
and whatever a chat template could read as a control token is taken apart. Datasets render their training rows with the
same function, so that a tuned model meets the prompt it learned from.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from affinage.blobs import BlobStore
from affinage.engines.protocols import Message
from affinage.errors import ConfigurationError, UnknownObjectError
from affinage.index.passages import Passage

_PLACEHOLDER = re.compile(r"\{(question|passages|schema)\}")
_CONTROL = re.compile(
    r"<(?=\|)|(?<=\|)>|<(?=/?(?:s|bos|eos|pad|unk|im_start|im_end|start_of_turn|end_of_turn)>)|\[(?=/?INST\])|<(?=</?SYS>>)"
)


@dataclass(frozen=True)
class Prompt:
    """A template: what the model is told (`system`) and the frame around the question (`user`)."""

    name: str
    system: str
    user: str

    @property
    def digest(self) -> str:
        """SHA-256 of the template; a part of the variant."""
        return _digest([self.system, self.user])


def load_prompt(name: str) -> Prompt:
    """The template `name` on the shelf, or the TOML file it names.

    Raises
    ------
    ConfigurationError
        If there is no such template, or it lacks `system` or `user`.
    """
    shelf = resources.files("affinage.answers") / "shelf"
    on_shelf = re.fullmatch(r"[a-z0-9-]+", name) is not None
    file = shelf / f"{name}.toml" if on_shelf else Path(name)
    if not file.is_file():
        known = ", ".join(sorted(entry.name.removesuffix(".toml") for entry in shelf.iterdir() if entry.name.endswith(".toml")))
        raise ConfigurationError(f"There is no prompt `{name}`.", hint=f"Name a TOML file or one of: {known}.", name=name)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        return Prompt(name=name, system=str(values["system"]), user=str(values["user"]))
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The prompt `{name}` is wrong: {error}.", hint="It needs the texts `system` and `user`.") from error


class PromptArchive:
    """Keeps every template that a variant names, so that a variant keeps its prompt when the declaration changes."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: dict[str, Prompt] = {}

    def keep(self, prompt: Prompt) -> None:
        """Store the template under its digest; again is a no-op."""
        if prompt.digest not in self._known:
            self._blobs.put(_blob(prompt.digest), json.dumps(asdict(prompt)).encode())
            self._known[prompt.digest] = prompt

    def get(self, digest: str, *, declared: str) -> Prompt:
        """The template with `digest`: the declared one when it is that, else from the archive.

        Raises
        ------
        ConfigurationError
            If no template with this digest was ever kept here.
        """
        if digest not in self._known:
            try:
                self._known[digest] = Prompt(**json.loads(self._blobs.get(_blob(digest))))
            except UnknownObjectError as error:
                prompt = load_prompt(declared)
                if prompt.digest != digest:
                    raise ConfigurationError(
                        f"The prompt {digest[:12]}… of the served variant is not the declared `{declared}` and was never kept here.",
                        hint="Declare the prompt that the variant was made with, or promote another variant.",
                    ) from error
                self.keep(prompt)
        return self._known[digest]


def render(
    prompt: Prompt, *, question: str, passages: Sequence[Passage] = (), schema: Mapping[str, Any] | None = None
) -> tuple[Message, ...]:
    """The messages that a generator gets.

    Parameters
    ----------
    passages
        Numbered from 1 in this order.
    schema
        JSON Schema of the answer; shown in a short form.
    """
    values = {
        "question": neutralised(question),
        "passages": "\n\n".join(f"[{n}] {neutralised(passage.text)}" for n, passage in enumerate(passages, 1)),
        "schema": describe_schema(schema) if schema else "{}",
    }
    return Message("system", _filled(prompt.system, values)), Message("user", _filled(prompt.user, values))


def prompt_digest(messages: Sequence[Message]) -> str:
    """SHA-256 of the exact messages, for the record of the answer."""
    return _digest([[message.role, message.content] for message in messages])


def neutralised(text: str) -> str:
    """`text` without invisible characters, and with control tokens of chat templates taken apart."""
    visible = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co"})
    return _CONTROL.sub(lambda found: f"{found.group(0)} " if found.group(0) in "<[" else f" {found.group(0)}", visible)


def describe_schema(schema: Mapping[str, Any]) -> str:
    """A short form of a JSON Schema that a small model reads: `{"product": string, "reason": "a" | "b"}`."""
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    if isinstance(schema.get("properties"), Mapping):
        fields = (f"{json.dumps(name, ensure_ascii=False)}: {describe_schema(part)}" for name, part in schema["properties"].items())
        return "{" + ", ".join(fields) + "}"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"[{describe_schema(schema.get('items', {}))}, ...]"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _filled(template: str, values: Mapping[str, str]) -> str:
    # One pass: what is put in is never scanned again.
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], template)


def _blob(digest: str) -> str:
    return f"prompts/{digest}.json"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")).hexdigest()
