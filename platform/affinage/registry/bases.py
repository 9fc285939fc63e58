"""Bases: model weights that never left the site, by digest.

Registered once; an adapter names the digest of its base, and nothing loads it on another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from affinage.database.engine import Database
from affinage.database.tables.registry import base as table
from affinage.engines.tensors import base_shapes_of
from affinage.errors import ConflictError, UnknownObjectError, UsageError
from affinage.registry.mlflow import MlflowRegistry

UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class Base:
    """A registered base.

    Parameters
    ----------
    path
        Folder of its weights where it is trained; a process that only sends adapters to pods has no such folder.
    shapes
        Shape (out, in) of each weight by name; None where it was registered before there was this record.
    """

    name: str
    digest: str
    licence: str
    context_tokens: int
    chat_template: str | None
    path: str
    model_version: str | None
    shapes: Mapping[str, tuple[int, ...]] | None = None


def describe_base(folder: Path, *, name: str, digest: str, licence: str | None = None) -> Base:
    """What a folder of weights says about itself.

    Raises
    ------
    UsageError
        If the folder has no `config.json`, no safetensors, or asks for code of its own (`auto_map`).
    """
    config = _read_object(folder / "config.json")
    if config is None or not any(folder.glob("*.safetensors")):
        missing = "config.json" if config is None else "*.safetensors"
        raise UsageError(
            f"{folder} is no base: it has no `{missing}`.",
            hint="Give a Hugging Face folder with `config.json`, a tokenizer and safetensors weights; pickled weights are not accepted.",
        )
    if "auto_map" in config:
        raise UsageError(
            f"{folder} is refused: its `auto_map` would run code from the folder.", hint="Use an architecture of transformers."
        )
    context = config.get("max_position_embeddings")
    if not isinstance(context, int) or context < 1:
        raise UsageError(f"{folder / 'config.json'} does not say `max_position_embeddings`.", hint="Add it: the context length in tokens.")
    licence, shapes = licence or _licence(folder), base_shapes_of(folder)
    return Base(name, digest, licence, context, _chat_template(folder), str(folder.absolute()), None, shapes)


def register_base(database: Database, registry: MlflowRegistry | None, base: Base, *, now: Callable[[], datetime]) -> Base:
    """Store `base` and register it in MLflow as `base.<name>`; the same again changes nothing.

    Parameters
    ----------
    registry
        None leaves MLflow out (a later call with one adds it).

    Raises
    ------
    ConflictError
        If the name stands for other weights: adapters rely on it.
    """
    with database.write() as connection:
        stored = find_base(connection, base.name)
        if stored is not None and stored.digest != base.digest:
            raise ConflictError(
                f"Base `{base.name}` is registered with other weights (digest {stored.digest[:12]}…, given {base.digest[:12]}…).",
                hint="Choose another name with `--name`: adapters of the first rely on it.",
            )
        described = ("path", "licence", "context_tokens", "chat_template", "shapes")
        values = {name: getattr(base, name) for name in described}
        if stored is None:
            connection.execute(insert(table).values(name=base.name, digest=base.digest, created_at=now(), **values))
        else:
            connection.execute(update(table).where(table.c.name == base.name).values(**values))
    if registry is not None and (stored is None or stored.model_version is None):
        tags = {"affinage.licence": base.licence, "affinage.context_tokens": str(base.context_tokens), "affinage.path": base.path}
        version = registry.register_base(base.name, digest=base.digest, tags=tags)
        with database.write() as connection:
            connection.execute(update(table).where(table.c.name == base.name).values(model_version=version))
    with database.read() as connection:
        return get_base(connection, base.name)


def find_base(connection: Connection, name: str) -> Base | None:
    """The registered base `name`, or None."""
    row = connection.execute(select(table).where(table.c.name == name)).first()
    return None if row is None else _base(row)


def get_base(connection: Connection, name: str) -> Base:
    """The registered base `name`; raises `UnknownObjectError` when there is none."""
    found = find_base(connection, name)
    if found is None:
        raise UnknownObjectError("base", name, hint="Register it: `affinage base add PATH`.")
    return found


def list_bases(connection: Connection) -> list[Base]:
    """All registered bases, by name."""
    return [_base(row) for row in connection.execute(select(table).order_by(table.c.name))]


def _base(row: Any) -> Base:
    shapes = None if row.shapes is None else {name: tuple(shape) for name, shape in row.shapes.items()}
    return Base(row.name, row.digest, row.licence, row.context_tokens, row.chat_template, row.path, row.model_version, shapes)


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", hint="Copy the base again.") from error
    return value if isinstance(value, dict) else None


def _chat_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = (_read_object(folder / "tokenizer_config.json") or {}).get("chat_template")
    return template if isinstance(template, str) else None


def _licence(folder: Path) -> str:
    """The licence in the front matter of the model card, `unknown` when there is none."""
    card = folder / "README.md"
    if not card.is_file():
        return UNKNOWN_LICENCE
    found = re.search(r"\A---\n.*?^license:\s*(\S+)\s*$.*?^---$", card.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return found.group(1) if found else UNKNOWN_LICENCE
