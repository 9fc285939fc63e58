"""The reader that watches an index notices each thing that it should never see: without that it would prove nothing."""

from __future__ import annotations

import pytest

from affinage.index.passages import Passage
from tests.support.indexing import World
from tests.support.observer import Observer, wrong


def chunks(path: str, *versions: int) -> list[Passage]:
    fields = {
        "title": "",
        "language": "en",
        "page": None,
        "heading": "",
        "start": 0,
        "end": 1,
        "spans": (),
        "allow": ("everyone",),
        "score": 0.0,
    }
    return [
        Passage(chunk_id=f"{path}-{n}", doc_key=path, document=f"handbook/{path}", text=f"Rule, version {version}.", **fields)  # type: ignore[arg-type]
        for n, version in enumerate(versions)
    ]


WHOLE = [*chunks("all/1.md", 3, 3), *chunks("hr/2.md", 0, 0)]
ALWAYS = ("all/1.md", "hr/2.md")


def test_nothing_is_wrong_with_whole_documents_that_may_be_read() -> None:
    assert wrong(WHOLE, groups=["hr"], always=ALWAYS) == []
    assert wrong(WHOLE[:2], groups=[], always=ALWAYS) == [], "nobody misses what they may not read"


@pytest.mark.parametrize(
    ("seen", "groups", "said"),
    [
        ([*WHOLE, WHOLE[0]], ["hr"], "all/1.md-0 is there twice"),
        ([*chunks("all/1.md", 3, 4), *WHOLE[2:]], ["hr"], "all/1.md is a mixture of versions ['3', '4']"),
        (WHOLE[1:], ["hr"], "all/1.md has 1 chunks of 2"),
        (WHOLE, [], "hr/2.md is forbidden"),
        (WHOLE[2:], ["hr"], "all/1.md is missing"),
    ],
)
def test_each_thing_that_must_not_be_seen_is_said(seen: list[Passage], groups: list[str], said: str) -> None:
    assert wrong(seen, groups=groups, always=ALWAYS) == [said]


def test_what_the_observer_saw_fails_the_test_that_it_watches(world: World) -> None:
    world.write("all/1.md", "Annual leave, version 1.")
    world.sync()
    with pytest.raises(AssertionError, match="has 1 chunks of 2"), Observer(world, always=[]).watching():
        world.sync()
