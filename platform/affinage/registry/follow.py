"""MLflow's aliases follow our moves, and moves made by hand in MLflow are noticed.

Both directions may be killed and repeated. `finish_moves` carries out what `moves.py` recorded; `sync_alias` reads an alias
and takes in a version that somebody gave it with a plain MLflow client.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from affinage.answers.answer import EXTRACTIVE
from affinage.answers.variant import Variant
from affinage.database.engine import Database
from affinage.database.tables.registry import alias_move, alias_seen
from affinage.database.tables.registry import variant as variant_table
from affinage.errors import AffinageError, ConflictError, UsageError
from affinage.registry.adapter_files import VARIANT, WEIGHTS, stage_adapter
from affinage.registry.bases import Base
from affinage.registry.mlflow import MlflowRegistry
from affinage.registry.moves import pointer_of
from affinage.registry.names import CANDIDATE, CHAMPION, TAG, adapter_name
from affinage.registry.variants import AdapterTask, StoredVariant, save_variant, stored_variant, variant_of_version


def finish_moves(database: Database, registry: MlflowRegistry, *, now: Callable[[], datetime]) -> int:
    """Bring MLflow's aliases to where our recorded moves put them; returns how many were carried out.

    Of several pending moves of one alias only the last counts. An alias that somebody moved by hand meanwhile stays where it
    was put: `sync_alias` takes it in.

    Raises
    ------
    AffinageError
        The first failure, after every other move was carried out; what failed stays pending.
    """
    with database.read() as connection:
        query = select(alias_move).where(alias_move.c.done_at.is_(None)).order_by(alias_move.c.created_at, alias_move.c.version)
        pending = connection.execute(query).all()
    last = {(move.assistant, move.alias): move for move in pending}
    failures: list[AffinageError] = []
    for (assistant, alias), move in last.items():
        done = [other.move_id for other in pending if (other.assistant, other.alias) == (assistant, alias)]
        ours = {other.variant_id for other in pending if (other.assistant, other.alias) == (assistant, alias)}
        try:
            version = None if move.variant_id is None else ensure_version(database, registry, variant_id=move.variant_id)
            if alias == CHAMPION and not _newest(database, assistant, move.version):
                continue  # moved again meanwhile; that move is carried out next time
            by_hand = _moved_by_hand(database, registry, assistant=assistant, alias=alias, ours=ours)
            if not by_hand:
                _set(database, registry, assistant=assistant, alias=alias, version=version)
        except AffinageError as error:
            failures.append(error)  # one assistant's trouble does not hold up the others
            continue
        with database.write() as connection:
            connection.execute(update(alias_move).where(alias_move.c.move_id.in_(done)).values(done_at=now()))
            if not by_hand:
                _saw(connection, assistant=assistant, alias=alias, version=version, now=now())
    if failures:
        raise failures[0]
    return len(last)


def _newest(database: Database, assistant: str, version: int | None) -> bool:
    with database.read() as connection:
        pointer = pointer_of(connection, assistant)
    return pointer is None or pointer.version == version


def _moved_by_hand(database: Database, registry: MlflowRegistry, *, assistant: str, alias: str, ours: set[str | None]) -> bool:
    """Whether the alias names a version that it did not name when we last looked, and that no pending move of ours put there."""
    now = registry.get_alias(_organisation(database, assistant), assistant, alias)
    with database.read() as connection:
        seen = select(alias_seen.c.model_version).where(alias_seen.c.assistant == assistant, alias_seen.c.alias == alias)
        known = {connection.execute(seen).scalar()}
        versions = select(variant_table.c.model_version).where(variant_table.c.variant_id.in_([one for one in ours if one]))
        known |= set(connection.execute(versions).scalars())
    return now is not None and now not in known


def _organisation(database: Database, assistant: str) -> str:
    with database.read() as connection:
        query = select(variant_table.c.organisation).where(variant_table.c.assistant == assistant).limit(1)
        return str(connection.execute(query).scalar_one())


def _set(database: Database, registry: MlflowRegistry, *, assistant: str, alias: str, version: str | None) -> None:
    organisation = _organisation(database, assistant)
    if version is None:
        registry.delete_alias(organisation, assistant, alias)
    else:
        registry.set_alias(organisation, assistant, alias, version)


def ensure_version(database: Database, registry: MlflowRegistry, *, variant_id: str) -> str:
    """MLflow version of a variant; one that changes no weights is registered at the first call.

    Raises
    ------
    ConflictError
        If the variant has an adapter and no version: its files were never registered.
    """
    with database.read() as connection:
        stored = stored_variant(connection, variant_id)
    if stored.model_version is not None:
        return stored.model_version
    if stored.variant.adapter is not None:
        raise ConflictError(f"Variant `{variant_id}` has an adapter that is not in the registry.", hint="Run `affinage adapter register`.")
    made = registry.register_variant(
        organisation=stored.organisation,
        assistant=stored.variant.assistant,
        variant_id=variant_id,
        spec=asdict(stored.variant),
        adapter=None,
        tags=variant_tags(stored.variant),
    )
    with database.write() as connection:
        save_variant(connection, stored.variant, organisation=stored.organisation, now=stored.created_at, model_version=made.version)
    return made.version


def variant_tags(variant: Variant, **more: str | None) -> dict[str, str]:
    """Tags of a version: what a person or a program looks for in MLflow."""
    tags: dict[str, str | None] = {
        "base_digest": variant.base_digest,
        "adapter": variant.adapter,
        "adapter_digest": variant.adapter_digest,
        "prompt_digest": variant.prompt_digest,
        "engine": variant.engine,
        **more,
    }
    return {TAG + key: value for key, value in tags.items() if value is not None}


def sync_alias(
    database: Database,
    registry: MlflowRegistry,
    *,
    alias: str,
    organisation: str,
    current: Variant,
    base_of: Callable[[str, AdapterTask], Base],
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    then: Callable[[StoredVariant], None] | None = None,
) -> StoredVariant | None:
    """Take in the version that `alias` names, if it was set by hand since the last look.

    The variant is stored, not trusted: verification comes next. A version that was refused is looked at again only after
    the alias was removed and set again, one that met a failure that may pass at the next look. While a move of ours is on
    its way to MLflow nothing is taken in.

    Parameters
    ----------
    alias
        `candidate` or `champion`.
    current
        What serves the assistant now; the version's variant takes from it what it leaves out.
    base_of
        The base of an engine's generator or embedder; raises for an engine without a base of ours, such as an address: who
        can write to the registry must not decide where questions go.
    then
        What follows from it; done before the version counts as seen, so a kill in between repeats it.

    Returns
    -------
    StoredVariant or None
        What the alias names now; None when nothing changed.

    Raises
    ------
    UsageError
        If the version's files are no adapter.
    """
    assistant = current.assistant
    before = _last_seen(database, assistant, alias)
    version = registry.get_alias(organisation, assistant, alias)
    # A move of ours that was carried out between the two reads would look like a hand that moved the alias back.
    last = _last_seen(database, assistant, alias)
    if last is _MOVING or last != before or version == last:
        return None
    stored = None
    refusal: AffinageError | None = None
    try:
        if version is not None:
            with database.read() as connection:
                known = variant_of_version(connection, assistant, version)
            stored = known or _take_in(
                database, registry, organisation=organisation, version=version, current=current, base_of=base_of, now=now()
            )
            if then is not None:
                then(stored)
    except AffinageError as error:
        if error.retryable:
            raise
        refusal = error
    # Also a version that cannot be taken in counts as seen: it is not tried again at every look.
    with database.write() as connection:
        _saw(connection, assistant=assistant, alias=alias, version=version, now=now())
        if alias == CANDIDATE:
            what = f"set to version {version}" if version is not None else "removed"
            values = {"move_id": new_id(), "assistant": assistant, "alias": alias, "variant_id": stored.variant_id if stored else None}
            why = {"kind": "observed", "version": None, "actor": "registry", "reason": f"alias {what} in MLflow"}
            connection.execute(insert(alias_move).values(**values, **why, created_at=now(), done_at=now()))
    if refusal is not None:
        raise refusal
    return stored


_MOVING = "\0moving"
# No version of MLflow is called so.


def _last_seen(database: Database, assistant: str, alias: str) -> str | None:
    with database.read() as connection:
        ours = select(alias_move.c.move_id).where(alias_move.c.assistant == assistant, alias_move.c.alias == alias)
        if connection.execute(ours.where(alias_move.c.done_at.is_(None)).limit(1)).first() is not None:
            return _MOVING
        seen = select(alias_seen.c.model_version).where(alias_seen.c.assistant == assistant, alias_seen.c.alias == alias)
        return connection.execute(seen).scalar()


def _take_in(
    database: Database,
    registry: MlflowRegistry,
    *,
    organisation: str,
    version: str,
    current: Variant,
    base_of: Callable[[str, AdapterTask], Base],
    now: datetime,
) -> StoredVariant:
    found = registry.get_version(organisation, current.assistant, version)
    with tempfile.TemporaryDirectory() as temporary:
        folder = registry.download(organisation, current.assistant, version, Path(temporary) / "download")
        variant, task = _variant_of(folder, current, tags=found.tags, base_of=base_of)
    with database.write() as connection:
        save_variant(
            connection, variant, organisation=organisation, now=now, adapter_task=task, run_id=found.run_id, model_version=version,
            dataset_id=found.tags.get(TAG + "dataset_id"),
        )  # fmt: skip
        return stored_variant(connection, variant.variant_id)


def _variant_of(
    folder: Path, current: Variant, *, tags: Mapping[str, str], base_of: Callable[[str, AdapterTask], Base]
) -> tuple[Variant, AdapterTask | None]:
    """The variant that a version's files and tags describe; what serves now says what they leave out."""
    spec = _read_spec(folder / VARIANT)
    given: dict[str, Any] = {key: spec[key] for key in ("engine", "base_digest", "prompt_digest", "generations", "decoding") if key in spec}
    for key in ("base_digest", "prompt_digest", "engine"):
        if TAG + key in tags:
            given[key] = tags[TAG + key]
    if given.get("engine", current.engine) != current.engine and "base_digest" not in given:
        given["base_digest"] = base_of(given["engine"], "generator").digest
    variant = replace(current, **given)
    if not (folder / WEIGHTS).exists():
        return replace(variant, adapter=None, adapter_digest=None), None
    task: AdapterTask = "embedder" if variant.engine == EXTRACTIVE else "generator"
    base = base_of(variant.engine, task)
    with tempfile.TemporaryDirectory() as temporary:
        digest = stage_adapter(folder, Path(temporary), base=base.name)
    base_digest = given.get("base_digest") or base.digest
    return replace(variant, adapter=adapter_name(variant.assistant, digest), adapter_digest=digest, base_digest=base_digest), task


def _read_spec(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"`{VARIANT}` of the version cannot be read: {error}.", hint="Remove it or write a JSON object.") from error
    if not isinstance(spec, dict):
        raise UsageError(f"`{VARIANT}` of the version must hold a JSON object.", hint="Remove it or write a JSON object.")
    return spec


def _saw(connection: Connection, *, assistant: str, alias: str, version: str | None, now: datetime) -> None:
    same = (alias_seen.c.assistant == assistant) & (alias_seen.c.alias == alias)
    if connection.execute(update(alias_seen).where(same).values(model_version=version, seen_at=now)).rowcount == 0:
        connection.execute(insert(alias_seen).values(assistant=assistant, alias=alias, model_version=version, seen_at=now))
