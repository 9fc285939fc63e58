"""A gateway over a world, in this process, and a client that speaks as any user."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from affinage.console.pages import console_routes
from affinage.serving.gateway import create_gateway
from affinage.serving.parts import Parts
from affinage.serving.sessions import Sessions
from affinage.serving.writer import GroupWriter
from affinage.telemetry import Metrics
from tests.support.world import World

PERMIT = "A parking permit is valid for two years. It costs 40 euros a year."
QUESTION = "How long is a parking permit valid?"


class Gateway:
    """One gateway; `ask`, `get` and `post` make a key for each user they meet."""

    def __init__(self, world: World, **replaced: Any) -> None:
        self.world = world
        self.writer = GroupWriter(world.database, timeout_seconds=0.5)
        answering = replaced.pop("answering", None) or world.answering(commit=self.writer.commit)
        self.parts = Parts(
            database=world.database,
            blobs=world.blobs,
            answering=answering,
            writer=self.writer,
            sessions=Sessions(now=world.now),
            metrics=Metrics(),
            now=world.now,
            new_id=world.new_id,
            **replaced,
        )
        self.client = TestClient(create_gateway(self.parts, pages=console_routes(self.parts)), raise_server_exceptions=False)
        self._keys: dict[str, str] = {}

    def headers(self, user: str) -> dict[str, str]:
        if user not in self._keys:
            self._keys[user] = self.world.key(user)
        return {"Authorization": f"Bearer {self._keys[user]}"}

    def post(self, path: str, body: Any, *, user: str = "alice", **headers: str) -> Any:
        return self.client.post(path, json=body, headers={**self.headers(user), **headers})

    def get(self, path: str, *, user: str = "alice") -> Any:
        return self.client.get(path, headers=self.headers(user))

    def ask(self, question: str = QUESTION, *, user: str = "alice", model: str = "guichet", **more: Any) -> Any:
        return self.post("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": question}], **more}, user=user)
