from __future__ import annotations

import asyncio
import threading

import pytest

from affinage.errors import DependencyError
from affinage.serving.pool import Pool


def test_work_beyond_the_limit_is_refused_at_once_and_places_come_back():
    async def scenario() -> None:
        pool, go = Pool("t", threads=1, waiting=1, timeout_seconds=10), threading.Event()
        running = [asyncio.create_task(pool.run(lambda: go.wait(10))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(DependencyError, match="overloaded"):
            await pool.run(lambda: True)
        go.set()
        assert await asyncio.gather(*running) == [True, True]
        assert await pool.run(lambda: 5) == 5
        pool.close()

    asyncio.run(scenario())


def test_work_that_takes_too_long_keeps_its_place_until_it_ends():
    async def scenario() -> None:
        pool, go = Pool("t", threads=1, waiting=0, timeout_seconds=0.05), threading.Event()
        with pytest.raises(DependencyError, match="too long"):
            await pool.run(lambda: go.wait(10))
        with pytest.raises(DependencyError, match="overloaded"):
            await pool.run(lambda: True)
        go.set()
        while pool._taken:
            await asyncio.sleep(0.001)
        assert await pool.run(lambda: True) is True
        pool.close()

    asyncio.run(scenario())


def test_a_failure_reaches_the_caller():
    async def scenario() -> None:
        pool = Pool("t", threads=1, waiting=0, timeout_seconds=5)
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        pool.close()

    asyncio.run(scenario())
