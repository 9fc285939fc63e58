"""Variants as stored: idempotent, found by id, beginning or adapter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affinage.answers.variant import Variant
from affinage.database.engine import Database
from affinage.errors import UnknownObjectError, UsageError
from affinage.registry.variants import get_variant, list_variants, resolve_variant, save_variant, stored_variant, variant_of_version

BARE = Variant("appels", "package:smollm2", "b" * 64, None, None, "p" * 64, {"handbook": "g1"}, {"max_tokens": 64})
TUNED = replace(BARE, adapter="appels@aaaaaaaa", adapter_digest="a" * 64)


def test_what_is_saved_is_read_back(database: Database, clock) -> None:
    with database.write() as connection:
        assert save_variant(connection, BARE, organisation="default", now=clock())
    with database.read() as connection:
        assert get_variant(connection, BARE.variant_id) == BARE
        assert get_variant(connection, BARE.variant_id).variant_id == BARE.variant_id


def test_saving_again_fills_in_what_was_not_known_and_changes_nothing_else(database: Database, clock) -> None:
    with database.write() as connection:
        save_variant(connection, TUNED, organisation="default", now=clock(), adapter_task="generator")
        assert not save_variant(connection, TUNED, organisation="default", now=clock(), model_version="3", adapter_task="embedder")
        assert not save_variant(connection, TUNED, organisation="default", now=clock(), model_version="4")
        stored = stored_variant(connection, TUNED.variant_id)
        assert (stored.model_version, stored.adapter_task) == ("3", "generator")
        assert variant_of_version(connection, "appels", "3") == stored
        assert variant_of_version(connection, "appels", "4") is None


def test_a_variant_is_found_by_the_beginning_of_its_id_or_by_its_adapter(database: Database, clock) -> None:
    with database.write() as connection:
        save_variant(connection, BARE, organisation="default", now=clock())
        clock.advance(seconds=1)
        save_variant(connection, TUNED, organisation="default", now=clock())
        clock.advance(seconds=1)
        newer = replace(TUNED, generations={"handbook": "g2"})
        save_variant(connection, newer, organisation="default", now=clock())
    with database.read() as connection:
        assert resolve_variant(connection, BARE.variant_id[:12]).variant == BARE
        assert resolve_variant(connection, "appels@aaaaaaaa").variant == newer
        assert [stored.variant for stored in list_variants(connection, "appels")] == [BARE, TUNED, newer]
        for name in ("appels@bbbbbbbb", "zzzz", "", "%"):
            with pytest.raises(UnknownObjectError):
                resolve_variant(connection, name)


def test_a_beginning_that_fits_several_is_not_guessed(database: Database, clock) -> None:
    with database.write() as connection:
        seen: dict[str, Variant] = {}
        for i in range(40):  # 17 ids suffice for two with the same first digit
            one = replace(BARE, prompt_digest=str(i))
            save_variant(connection, one, organisation="default", now=clock())
            if one.variant_id[0] in seen:
                break
            seen[one.variant_id[0]] = one
        with pytest.raises(UsageError, match="fits 2 variants"):
            resolve_variant(connection, one.variant_id[0])
