"""The registry against a real MLflow on SQLite: versions, aliases, and what reaches an engine."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from affinage.answers.variant import Variant
from affinage.blobs.folder import FolderBlobs
from affinage.database.engine import Database
from affinage.database.tables.registry import alias_move
from affinage.declarations.model import AssistantSpec
from affinage.engines.digest import base_digest
from affinage.engines.protocols import Message
from affinage.errors import ConflictError, DependencyError, RefusedError, UnknownObjectError, UsageError
from affinage.registry.adapter_files import WEIGHTS, adapter_digest
from affinage.registry.bases import Base, describe_base, get_base, register_base
from affinage.registry.countersign import countersign
from affinage.registry.follow import finish_moves, sync_alias
from affinage.registry.mlflow import MlflowRegistry
from affinage.registry.moves import move_champion, pointer_of, set_candidate
from affinage.registry.variants import StoredVariant, save_variant, stored_variant
from affinage.residency.load import fetch_adapter, make_ready, unload, verified_folder
from affinage.residency.promote import promote_by_hand
from affinage.tuning import golden
from affinage.tuning.register import register_files
from tests.support.adapters import write_adapter, write_base
from tests.support.generators import TableGenerator

pytestmark = pytest.mark.integration
OTHER = "other-base"
_names = (f"calls-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    """One MLflow for all tests of this module: its first start creates some 40 tables."""
    home = tmp_path_factory.mktemp("mlflow")
    return MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")


@pytest.fixture
def plain_client(registry: MlflowRegistry):
    """What a data scientist has in a notebook."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)


@pytest.fixture
def spec() -> AssistantSpec:
    """An assistant of its own for each test."""
    return AssistantSpec(name=next(_names), task="extract", engine="tiny", sources=())


@pytest.fixture
def base(database: Database, tmp_path: Path, clock) -> Base:
    folder = write_base(tmp_path / "base")
    return register_base(database, None, describe_base(folder, name="tiny", digest=base_digest(folder)), now=clock)


@pytest.fixture
def bare(database: Database, spec: AssistantSpec, base: Base, clock, new_id) -> Iterator[Variant]:
    """The champion: no adapter."""
    variant = Variant(spec.name, "tiny", base.digest, None, None, "p" * 64, {}, {"max_tokens": 8})
    with database.write() as connection:
        save_variant(connection, variant, organisation="default", now=clock())
        move_champion(
            connection, assistant=spec.name, to=variant.variant_id, actor="t", reason="t", now=clock(), new_id=new_id, kind="default"
        )
    return variant


@pytest.fixture
def tuned(
    database: Database, registry: MlflowRegistry, spec: AssistantSpec, base: Base, bare: Variant, tmp_path: Path, clock
) -> StoredVariant:
    """A registered adapter, not countersigned."""
    folder = write_adapter(tmp_path / "trained")
    variant, _ = register_files(
        database=database, registry=registry, spec=spec, folder=folder, base=base, task="generator", now=clock(), dataset_id="ds-1"
    )
    return read(database, variant.variant_id)


def read(database: Database, variant_id: str) -> StoredVariant:
    with database.read() as connection:
        return stored_variant(connection, variant_id)


def sign(database: Database, stored: StoredVariant, clock) -> None:
    with database.write() as connection:
        countersign(connection, variant_id=stored.variant_id, gate_id="gate-1", now=clock())


def test_a_version_holds_adapter_files_only_and_what_the_variant_is(registry, spec, tuned, base, tmp_path) -> None:
    folder = registry.download("default", spec.name, tuned.model_version, tmp_path / "got")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "variant.json"]
    assert adapter_digest(folder) == tuned.variant.adapter_digest
    # The path of the base on this machine does not leave it.
    assert "/somewhere" not in (folder / "adapter_config.json").read_text()
    tags = registry.get_version("default", spec.name, tuned.model_version).tags
    assert tags["affinage.base_digest"] == base.digest
    assert tags["affinage.dataset_id"] == "ds-1"


def test_registering_the_same_files_again_makes_nothing_new(database, registry, spec, base, tuned, tmp_path, clock) -> None:
    variant, made = register_files(
        database=database, registry=registry, spec=spec, folder=write_adapter(tmp_path / "again"), base=base, task="generator", now=clock()
    )
    assert (variant, made.version) == (tuned.variant, tuned.model_version)
    assert [version.version for version in registry.versions("default", spec.name)] == ["1"]


def test_a_base_is_registered_once_with_its_digest(database, registry, base, clock) -> None:
    once = register_base(database, registry, base, now=clock)
    again = register_base(database, registry, base, now=clock)
    assert once.model_version is not None
    assert again == once


def test_an_adapter_is_verified_where_the_weights_of_its_base_are_not(database, registry, tuned, base, tmp_path) -> None:
    """A controller sends adapters to pods that have the weights; it has none."""
    shutil.rmtree(base.path)
    with database.read() as connection:
        known = get_base(connection, base.name)
    _, facts = verified_folder(registry, tuned, adapters=tmp_path / "adapters", base=known)
    assert facts.digest == tuned.variant.adapter_digest
    narrower = replace(known, shapes={name: (1, *shape[1:]) for name, shape in known.shapes.items()})
    with pytest.raises(RefusedError) as refused:
        verified_folder(registry, tuned, adapters=tmp_path / "adapters", base=narrower)
    assert refused.value.reasons


def test_aliases_follow_recorded_moves_and_a_variant_without_adapter_gets_its_version_then(
    database, registry, spec, bare, tuned, clock, new_id
) -> None:
    assert registry.aliases("default", spec.name) == {}
    sign(database, tuned, clock)
    with database.write() as connection:
        known = {"assistant": spec.name, "actor": "t", "reason": "t", "now": clock(), "new_id": new_id}
        set_candidate(connection, variant_id=tuned.variant_id, **known)
    assert finish_moves(database, registry, now=clock) == 2
    bare_version = read(database, bare.variant_id).model_version
    assert registry.aliases("default", spec.name) == {"champion": bare_version, "candidate": tuned.model_version}
    with database.write() as connection:
        move_champion(connection, to=tuned.variant_id, **known)
        set_candidate(connection, variant_id=None, **known)
    finish_moves(database, registry, now=clock)
    assert registry.aliases("default", spec.name) == {"champion": tuned.model_version}
    assert finish_moves(database, registry, now=clock) == 0
    with database.read() as connection:
        assert all(row.done_at is not None for row in connection.execute(select(alias_move)))


def test_our_own_moves_are_not_taken_for_moves_by_hand(database, registry, spec, tuned, sync, clock, new_id) -> None:
    with database.write() as connection:
        set_candidate(connection, assistant=spec.name, variant_id=tuned.variant_id, actor="t", reason="t", now=clock(), new_id=new_id)
    assert sync() is None  # it is on its way
    finish_moves(database, registry, now=clock)
    assert sync() is None
    assert sync("champion") is None


def test_a_champion_moved_by_hand_is_noticed_once(database, registry, plain_client, spec, tuned, sync, clock) -> None:
    finish_moves(database, registry, now=clock)  # the default champion
    assert sync("champion") is None
    plain_client.set_registered_model_alias(f"affinage.default.{spec.name}", "champion", tuned.model_version)
    moved = sync("champion")
    assert moved is not None
    assert moved.variant_id == tuned.variant_id
    assert sync("champion") is None
    # The alias taken away by hand moves nothing: what serves goes on serving.
    plain_client.delete_registered_model_alias(f"affinage.default.{spec.name}", "champion")
    assert sync("champion") is None


def test_an_alias_moved_by_hand_while_ours_was_on_its_way_stays_and_is_taken_in(
    database, registry, plain_client, spec, bare, tuned, sync, clock, new_id
) -> None:
    finish_moves(database, registry, now=clock)
    sign(database, tuned, clock)
    with database.write() as connection:  # the process that moved is killed before it told MLflow
        move_champion(connection, assistant=spec.name, to=tuned.variant_id, actor="t", reason="t", now=clock(), new_id=new_id)
    model = f"affinage.default.{spec.name}"
    made = plain_client.create_model_version(model, plain_client.get_model_version(model, tuned.model_version).source)
    plain_client.set_registered_model_alias(model, "champion", made.version)
    finish_moves(database, registry, now=clock)
    assert registry.get_alias("default", spec.name, "champion") == str(made.version)
    taken = sync("champion")
    assert taken is not None
    # Set by us and not yet noted, the same alias is no hand's.
    with database.write() as connection:
        move_champion(connection, assistant=spec.name, to=bare.variant_id, actor="t", reason="t", now=clock(), new_id=new_id)
    registry.set_alias("default", spec.name, "champion", read(database, bare.variant_id).model_version)
    assert finish_moves(database, registry, now=clock) == 1
    assert sync("champion") is None


@pytest.fixture
def sync(database: Database, registry: MlflowRegistry, bare: Variant, base: Base, clock, new_id):
    """One look at an alias."""

    def base_of(engine: str, task: str) -> Base:
        if engine not in {base.name, OTHER}:
            raise UnknownObjectError("base", engine)
        return base if engine == base.name else replace(base, name=OTHER, digest="f" * 64)

    known = {"organisation": "default", "current": bare, "base_of": base_of, "now": clock, "new_id": new_id}
    return lambda alias="candidate": sync_alias(database, registry, alias=alias, **known)


def notebook_version(plain_client, spec: AssistantSpec, folder: Path, **tags: str) -> str:
    """What a data scientist's notebook does, with a plain MLflow client."""
    from mlflow.exceptions import MlflowException

    name = f"affinage.default.{spec.name}"
    with contextlib.suppress(MlflowException):
        plain_client.create_registered_model(name)
    experiment = plain_client.get_experiment_by_name("notebook")
    where = (
        experiment.experiment_id
        if experiment
        else plain_client.create_experiment("notebook", artifact_location=str(folder.parent / "runs"))
    )
    run = plain_client.create_run(where)
    plain_client.log_artifacts(run.info.run_id, str(folder), "adapter")
    made = plain_client.create_model_version(name, f"runs:/{run.info.run_id}/adapter", run.info.run_id, tags=tags)
    plain_client.set_registered_model_alias(name, "candidate", made.version)
    return str(made.version)


def test_a_version_set_as_candidate_in_a_notebook_is_taken_in_once(registry, plain_client, spec, base, bare, sync, tmp_path) -> None:
    folder = write_adapter(tmp_path / "notebook", seed=7)
    version = notebook_version(plain_client, spec, folder)
    taken = sync()
    assert taken is not None
    assert (taken.model_version, taken.adapter_task, taken.countersigned_at) == (version, "generator", None)
    # What it leaves out is the champion's.
    left_out = asdict(taken.variant) | {"adapter": None, "adapter_digest": None}
    assert left_out == asdict(bare)
    _, facts = verified_folder(registry, taken, adapters=tmp_path / "adapters", base=base)
    assert facts.digest == taken.variant.adapter_digest
    assert sync() is None
    # Removed and set again: looked at again.
    plain_client.delete_registered_model_alias(f"affinage.default.{spec.name}", "candidate")
    assert sync() is None
    plain_client.set_registered_model_alias(f"affinage.default.{spec.name}", "candidate", version)
    again = sync()
    assert again is not None
    assert again.variant_id == taken.variant_id


def test_a_notebook_version_for_another_base_is_taken_in_and_refused_by_verification(
    registry, plain_client, spec, base, bare, sync, tmp_path
) -> None:
    notebook_version(plain_client, spec, write_adapter(tmp_path / "notebook"), **{"affinage.base_digest": "0" * 64})
    taken = sync()
    assert taken is not None
    with pytest.raises(RefusedError) as refused:
        verified_folder(registry, taken, adapters=tmp_path / "adapters", base=base)
    assert "trained on the base 000000000000" in refused.value.reasons[0]


def test_a_version_for_the_pool_of_another_base_is_a_variant_on_it(plain_client, spec, sync, tmp_path) -> None:
    notebook_version(plain_client, spec, write_adapter(tmp_path / "notebook"), **{"affinage.engine": OTHER})
    taken = sync()
    assert taken is not None
    assert (taken.variant.engine, taken.variant.base_digest) == (OTHER, "f" * 64)


@pytest.mark.parametrize("engine", ["http://somewhere.example/v1", "unheard-of"])
def test_a_version_cannot_send_questions_to_an_engine_that_nobody_registered(plain_client, spec, sync, tmp_path, engine: str) -> None:
    notebook_version(plain_client, spec, write_adapter(tmp_path / "notebook"), **{"affinage.engine": engine})
    with pytest.raises(UnknownObjectError):
        sync()
    assert sync() is None


def test_a_version_that_is_no_adapter_is_refused_once_and_not_tried_again(plain_client, spec, sync, tmp_path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"\0")
    notebook_version(plain_client, spec, folder)
    with pytest.raises(UsageError, match="is no adapter"):
        sync()
    assert sync() is None


def test_files_changed_in_the_registry_never_reach_an_engine(database, registry, spec, tuned, base, tmp_path) -> None:
    assert fetch_adapter(registry, tuned, adapters=tmp_path / "adapters", base=base) == tmp_path / "adapters" / str(tuned.variant.adapter)
    # Somebody with access to the artifacts replaces the weights.
    (stored,) = [
        path
        for path in (registry._artifacts or tmp_path).rglob(WEIGHTS)
        if adapter_digest(path.parent) == tuned.variant.adapter_digest and spec.name in str(path)
    ]
    write_adapter(tmp_path / "evil", seed=66)
    stored.write_bytes((tmp_path / "evil" / WEIGHTS).read_bytes())
    with pytest.raises(RefusedError, match="are not those that were registered"):
        fetch_adapter(registry, tuned, adapters=tmp_path / "elsewhere", base=base)


def test_a_fetched_adapter_that_was_damaged_is_fetched_again(registry, tuned, base, tmp_path) -> None:
    folder = fetch_adapter(registry, tuned, adapters=tmp_path / "adapters", base=base)
    (folder / WEIGHTS).write_bytes(b"")
    assert adapter_digest(fetch_adapter(registry, tuned, adapters=tmp_path / "adapters", base=base)) == tuned.variant.adapter_digest


QUESTION = (Message("user", "call 1"),)


def say(text: str):
    return lambda question: text


@pytest.fixture
def ready(database: Database, blobs: FolderBlobs, registry: MlflowRegistry, tuned: StoredVariant, base: Base, tmp_path: Path, clock):
    """Brings `tuned` onto a generator on which its files behave as told."""

    def _ready(said: str = "right answer"):
        generator = TableGenerator(say("nothing known"), {str(tuned.variant.adapter_digest): say(said)})
        made = make_ready(
            database=database,
            blobs=blobs,
            registry=registry,
            generator=generator,
            stored=tuned,
            adapters=tmp_path / "adapters",
            base=base,
            now=clock,
        )
        return made, generator

    return _ready


def test_only_countersigned_adapters_are_loaded(database, tuned, ready, clock) -> None:
    with pytest.raises(RefusedError, match="not countersigned"):
        ready()
    sign(database, tuned, clock)
    made, generator = ready()
    assert generator.adapters() == [made.adapter] == [tuned.variant.adapter]
    # Nothing was measured for it, and the proof says so instead of claiming one.
    assert (made.proof.from_reference, made.proof.from_base) == (None, None)
    assert not unload(generator, tuned, in_use={made.adapter: 1})
    assert unload(generator, tuned, in_use={})
    assert generator.adapters() == []


def test_an_adapter_is_proved_by_golden_answers_and_one_that_is_not_live_is_unloaded(database, blobs, tuned, ready, clock) -> None:
    sign(database, tuned, clock)
    # The table says -0.1 a word that the behaviour would say and -3.0 one that it would not.
    golden.save(blobs, str(tuned.variant.adapter_digest), [golden.GoldenRow(QUESTION, "right answer", adapter=-0.1, base=-3.0)])
    made, _ = ready()
    assert made.proof.from_reference == pytest.approx(0.0)
    assert made.proof.from_base == pytest.approx(2.9)
    with pytest.raises(RefusedError, match="is not live") as refused:
        ready("nothing known")
    assert "2.900" in refused.value.reasons[0]


def test_an_engine_that_cannot_tell_adapter_and_base_apart_proves_nothing(database, blobs, tuned, ready, clock) -> None:
    sign(database, tuned, clock)
    golden.save(blobs, str(tuned.variant.adapter_digest), [golden.GoldenRow(QUESTION, "right answer", adapter=-0.14, base=-0.1)])
    with pytest.raises(RefusedError, match="not told apart from the bare base"):
        ready()


def test_promotion_by_hand_is_recorded_and_never_skips_verification(database, registry, spec, base, tuned, clock, new_id, tmp_path) -> None:
    def verify(stored: StoredVariant) -> Path:
        return verified_folder(registry, stored, adapters=tmp_path / "adapters", base=base)[0]

    def refuse(stored: StoredVariant) -> Path:
        raise RefusedError("no", reasons=["NaN"])

    known = {
        "release": lambda variant_id: read(database, variant_id),
        "kept_ready": lambda _: contextlib.nullcontext(),
        "actor": "dana",
        "reason": "tried it",
        "now": clock,
        "new_id": new_id,
    }
    with pytest.raises(RefusedError):
        promote_by_hand(database=database, variant_id=tuned.variant_id, verify=refuse, **known)
    with database.read() as connection:
        assert pointer_of(connection, spec.name).version == 1
    move = promote_by_hand(database=database, variant_id=tuned.variant_id, verify=verify, **known)
    assert (move.variant_id, move.version) == (tuned.variant_id, 2)
    stored = read(database, tuned.variant_id)
    assert stored.gate_id is not None
    assert stored.gate_id.startswith("override:")
    with database.read() as connection:
        row = connection.execute(select(alias_move).where(alias_move.c.version == 2)).one()
    assert (row.kind, row.actor, row.reason) == ("override", "dana", "tried it")


def test_what_does_not_exist_is_named(registry, spec) -> None:
    assert registry.get_alias("default", spec.name, "champion") is None
    with pytest.raises(UnknownObjectError):
        registry.get_version("default", spec.name, "7")


def test_an_adapter_that_was_never_registered_cannot_be_followed(database, registry, spec, bare, clock, new_id) -> None:
    lost = replace(bare, adapter="x@12345678", adapter_digest="1" * 64)
    with database.write() as connection:
        save_variant(connection, lost, organisation="default", now=clock())
        set_candidate(connection, assistant=spec.name, variant_id=lost.variant_id, actor="t", reason="t", now=clock(), new_id=new_id)
    with pytest.raises(ConflictError, match="not in the registry"):
        finish_moves(database, registry, now=clock)


def test_a_registry_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(DependencyError, match="MLflow could not"):
        MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts").aliases("default", "calls")
