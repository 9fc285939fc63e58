from __future__ import annotations

import pytest

from affinage.database.engine import Database
from affinage.declarations.model import AssistantSpec
from tests.support.answers import declare, record


@pytest.fixture
def answered(database: Database) -> Database:
    """Alice has two answers to one question and one to another; Bob has one to the same question."""
    with database.write() as connection:
        declare(connection, AssistantSpec(name="guichet", sources=()), AssistantSpec(name="other", sources=()))
        record(connection, "a1")
        record(connection, "a2", text="Twelve days.", regenerates="a1")
        record(connection, "a3", question="Where is the office?")
        record(connection, "a4", assistant="other")
        record(connection, "b1", user="bob")
    return database
