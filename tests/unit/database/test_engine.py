"""Addresses of databases that cannot be opened, or that nobody answers at."""

from __future__ import annotations

import socket
import time

import pytest

from affinage.database import engine
from affinage.database.engine import Database
from affinage.errors import ConfigurationError, DependencyError

LEAST_SECONDS = 2
# The driver takes a shorter limit for this one.


@pytest.mark.parametrize(
    "url",
    [
        "s3cret",
        "postgresql://affinage:s3cret@host/affinage",  # a driver that is not installed
        "oracle+nothing://affinage:s3cret@host/affinage",
        "postgresql+psycopg://affinage:s3cret@host:port/affinage",
        "postgresql+psycopg://affinage:s3cret:5432/affinage",
    ],
)
def test_an_address_that_cannot_be_opened_is_wrong_usage_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Database(url).migrate()
    assert "postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME" in refused.value.hint
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("query", ["", f"?connect_timeout={LEAST_SECONDS}"], ids=["own limit", "limit of the address"])
def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.setattr(engine, "CONNECT_SECONDS", LEAST_SECONDS if not query else 60)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql+psycopg://affinage:s3cret@127.0.0.1:{silent.getsockname()[1]}/affinage{query}"
        began = time.monotonic()
        with pytest.raises(DependencyError) as failed:
            Database(url).migrate()
    assert time.monotonic() - began < 10 * LEAST_SECONDS
    assert failed.value.retryable
    assert "s3cret" not in str(failed.value)
