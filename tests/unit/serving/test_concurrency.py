"""Many callers at once: each gets the answer to its own question, under its own rights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from affinage.database.tables.answers import answer as answer_table
from tests.support.gateway import Gateway

CALLERS = 12
QUESTIONS = 5


def test_parallel_questions_are_answered_each_under_its_own_rights(gateway: Gateway):
    world = gateway.world
    for number in range(CALLERS):
        world.add(f"own-{number}.md", f"The locker code of person{number} is {number}{number}.", allow=[f"user:u{number}"])
        gateway.headers(f"u{number}")

    def ask(number: int) -> list[str]:
        question = f"What is the locker code of person{(number + 1) % CALLERS}?"
        own = f"What is the locker code of person{number}?"
        texts = []
        for _ in range(QUESTIONS):
            texts += [gateway.ask(own, user=f"u{number}").json()["choices"][0]["message"]["content"]]
            foreign = gateway.ask(question, user=f"u{number}").json()
            assert all(citation["document"] == f"handbook/own-{number}.md" for citation in foreign["affinage"]["citations"])
        return texts

    with ThreadPoolExecutor(CALLERS) as pool:
        for number, texts in enumerate(pool.map(ask, range(CALLERS))):
            assert set(texts) == {f"The locker code of person{number} is {number}{number}. [1]"}
    with world.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(answer_table)).scalar() == CALLERS * QUESTIONS * 2
    assert gateway.parts.state.inflight == 0
