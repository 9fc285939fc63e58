"""Bases: described from their folder, registered once by digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from affinage.database.engine import Database
from affinage.engines.digest import base_digest
from affinage.errors import ConflictError, UnknownObjectError, UsageError
from affinage.registry.bases import describe_base, get_base, list_bases, register_base
from tests.support.adapters import write_base


def describe(folder: Path, name: str = "tiny"):
    return describe_base(folder, name=name, digest=base_digest(folder))


def test_a_base_says_its_licence_context_and_template(tmp_path: Path) -> None:
    base = describe(write_base(tmp_path / "base"))
    assert (base.licence, base.context_tokens, base.chat_template) == ("apache-2.0", 512, "{{ messages }}")


def test_a_base_without_a_model_card_has_an_unknown_licence(tmp_path: Path) -> None:
    assert describe(write_base(tmp_path / "base", card=None)).licence == "unknown"


def test_a_folder_without_configuration_or_safetensors_is_refused(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"no `\*\.safetensors`"):
        describe_base(folder, name="tiny", digest="d")
    with pytest.raises(UsageError, match=r"no `config\.json`"):
        describe_base(tmp_path, name="tiny", digest="d")


@pytest.mark.parametrize("config", [{"auto_map": {"AutoModel": "evil.Model"}}, {"max_position_embeddings": None}])
def test_a_base_that_runs_code_or_hides_its_context_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        describe(write_base(tmp_path / "base", **config))


def test_the_same_base_again_changes_nothing_and_other_weights_are_a_conflict(database: Database, clock, tmp_path: Path) -> None:
    first = register_base(database, None, describe(write_base(tmp_path / "one")), now=clock)
    assert register_base(database, None, describe(tmp_path / "one"), now=clock) == first
    with pytest.raises(ConflictError, match="other weights"):
        register_base(database, None, describe(write_base(tmp_path / "two", seed=1)), now=clock)
    with database.read() as connection:
        assert list_bases(connection) == [first]
        with pytest.raises(UnknownObjectError):
            get_base(connection, "other")


def test_one_changed_number_changes_the_digest(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    before = base_digest(folder)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert base_digest(folder) != before
