"""API keys, groups and pseudonyms."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from affinage.database.engine import Database
from affinage.database.tables.identity import api_key
from affinage.errors import UnknownObjectError
from affinage.identity import directory, keys, pseudonyms
from affinage.identity.secrets import PSEUDONYMS, installation_secret
from tests.conftest import Clock


def test_a_key_names_its_user_until_it_is_revoked(database: Database, clock: Clock, new_id: Callable[[], str]) -> None:
    with database.write() as connection:
        key_id, key = keys.create_key(connection, user="alice", now=clock(), new_id=new_id)
        assert keys.owner_of_key(connection, key=key) == keys.KeyOwner("alice")
        keys.revoke_key(connection, key_id=key_id, now=clock())
        keys.revoke_key(connection, key_id=key_id, now=clock())
        assert keys.owner_of_key(connection, key=key) is None


def test_the_key_itself_is_not_stored(database: Database, clock: Clock, new_id: Callable[[], str]) -> None:
    with database.write() as connection:
        _, key = keys.create_key(connection, user="alice", now=clock(), new_id=new_id)
        stored = connection.execute(select(api_key)).one()
    assert key not in map(str, stored)


def test_revoking_an_unknown_key_says_so(database: Database, clock: Clock) -> None:
    with database.write() as connection, pytest.raises(UnknownObjectError, match="nope"):
        keys.revoke_key(connection, key_id="nope", now=clock())


def test_group_membership_is_idempotent_both_ways(database: Database) -> None:
    with database.write() as connection:
        assert directory.add_member(connection, group="hr", user="dana")
        assert not directory.add_member(connection, group="hr", user="dana")
        assert directory.reader_of(connection, user="dana", groups=["it"]).principals == {"everyone", "user:dana", "group:hr", "group:it"}
        assert directory.remove_member(connection, group="hr", user="dana")
        assert not directory.remove_member(connection, group="hr", user="dana")


def test_a_pseudonym_is_stable_here_and_different_under_another_secret(database: Database) -> None:
    with database.write() as connection:
        secret = installation_secret(connection, PSEUDONYMS)
        assert installation_secret(connection, PSEUDONYMS) == secret
    assert pseudonyms.pseudonym(secret, "alice") == pseudonyms.pseudonym(secret, "alice")
    assert pseudonyms.pseudonym(secret, "alice") != pseudonyms.pseudonym(b"other", "alice")
