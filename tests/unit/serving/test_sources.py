"""`POST /v1/sources/{name}/changed`: who may send it, what it takes, and that it only schedules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import insert, select

from affinage.database.tables.identity import organisation, role_binding
from affinage.database.tables.index import index_run, source_hint
from affinage.identity.directory import add_member
from affinage.identity.keys import create_key
from affinage.index.hints import hinted_sources
from tests.support.gateway import Gateway
from tests.support.world import AT

S3_EVENT = {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "handbook/a.md"}}}]}
CHANGED = "/v1/sources/handbook/changed"


def scoped(gateway: Gateway, scope: str) -> dict[str, str]:
    with gateway.world.database.write() as connection:
        _, key = create_key(connection, user="bucket", now=AT, new_id=gateway.world.new_id, scope=scope)
    return {"Authorization": f"Bearer {key}"}


def hinted(gateway: Gateway) -> list[str]:
    with gateway.world.database.read() as connection:
        return hinted_sources(connection)


def give_role(gateway: Gateway, user: str, role: str, *, to: str = "default") -> None:
    with gateway.world.database.write() as connection:
        if connection.execute(select(organisation.c.name).where(organisation.c.name == to)).first() is None:
            connection.execute(insert(organisation).values(name=to, created_at=AT))
        connection.execute(insert(role_binding).values(organisation=to, role=role, group_name=f"{user}s"))
        add_member(connection, group=f"{user}s", user=user)


@pytest.mark.parametrize("content", [b"", b"{}", b"no json at all", json.dumps(S3_EVENT).encode()])
def test_a_hint_is_noted_whatever_it_says_and_nothing_is_listed(gateway: Gateway, content: bytes) -> None:
    headers = scoped(gateway, "source:handbook")
    first = gateway.client.post(CHANGED, content=content, headers=headers)
    again = gateway.client.post(CHANGED, content=content, headers=headers)
    assert (first.status_code, first.json()) == (202, {"source": "handbook", "scheduled": True})
    assert (again.status_code, again.json()) == (202, {"source": "handbook", "scheduled": False})
    assert hinted(gateway) == ["handbook"]
    with gateway.world.database.read() as connection:
        assert connection.execute(select(index_run)).all() == []


def test_a_key_for_one_source_is_good_for_nothing_else(gateway: Gateway) -> None:
    headers = scoped(gateway, "source:handbook")
    other = scoped(gateway, "source:other")
    assert gateway.client.post(CHANGED, headers=other).status_code == 403
    assert gateway.client.get("/v1/models", headers=headers).status_code == 403
    body = {"model": "guichet", "messages": [{"role": "user", "content": "x"}]}
    assert gateway.client.post("/v1/chat/completions", json=body, headers=headers).status_code == 403
    assert hinted(gateway) == []


@pytest.mark.parametrize(("role", "status"), [("operator", 202), ("owner", 202), ("reviewer", 403), ("scientist", 403), (None, 403)])
def test_roles_of_the_sources_organisation_count(gateway: Gateway, role: str | None, status: int) -> None:
    if role is not None:
        give_role(gateway, "olga", role)
    give_role(gateway, "olga", "operator", to="elsewhere")
    assert gateway.post(CHANGED, {}, user="olga").status_code == status
    assert hinted(gateway) == (["handbook"] if status == 202 else [])


def test_nobody_learns_which_sources_there_are(gateway: Gateway) -> None:
    def answer(name: str) -> Any:
        found = gateway.post(f"/v1/sources/{name}/changed", {}, user="mallory")
        return found.status_code, found.text.replace(name, "NAME")

    assert answer("handbook") == answer("nowhere")
    assert gateway.client.post(CHANGED).status_code == 401
    assert gateway.client.post("/v1/sources/gone/changed", headers=scoped(gateway, "source:gone")).status_code == 404


def test_a_body_without_end_is_refused(gateway: Gateway) -> None:
    found = gateway.client.post(CHANGED, content=b"x" * (2 << 20), headers=scoped(gateway, "source:handbook"))
    assert found.status_code == 413
    with gateway.world.database.read() as connection:
        assert connection.execute(select(source_hint)).all() == []
