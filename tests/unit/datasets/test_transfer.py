from __future__ import annotations

import json

import pytest

from affinage.datasets.compare import difference
from affinage.datasets.read import load_rows
from affinage.datasets.snapshots import get_snapshot
from affinage.datasets.transfer import export_lines, import_dataset
from affinage.errors import RefusedError, UsageError
from affinage.lineage.forget import forget_user
from tests.support.loop import CALLS, Loop


def chat(number: int) -> str:
    question = " ".join(f"call{number}word{n}" for n in range(8))
    right = json.dumps({"product": f"box {number}", "reason": "broken", "reference": None})
    messages = [{"role": "system", "content": "Read."}, {"role": "user", "content": question}, {"role": "assistant", "content": right}]
    return json.dumps({"messages": messages}) + "\n"


def test_the_test_split_never_leaves(called: Loop) -> None:
    snapshot = called.build(CALLS, "extraction")
    hidden = {row.example_id for row in load_rows(called.blobs, snapshot, "test")}
    lines = list(export_lines(called.blobs, snapshot))
    assert len(lines) == snapshot.counts["train"] + snapshot.counts["validation"]
    assert not hidden & {json.loads(line)["example_id"] for line in lines}


def test_chat_lines_end_with_the_right_answer(called: Loop) -> None:
    snapshot = called.build(CALLS, "extraction")
    messages = json.loads(next(export_lines(called.blobs, snapshot, form="chat")))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert json.loads(messages[-1]["content"])["reason"] == "late"


def test_a_dataset_with_a_forgotten_user_is_not_exported(called: Loop) -> None:
    snapshot = called.build(CALLS, "extraction")
    forget_user(called.database, called.blobs, user="agent03")
    with called.database.read() as connection:
        tainted = get_snapshot(connection, snapshot.dataset_id)
    with pytest.raises(RefusedError):
        list(export_lines(called.blobs, tainted))


def test_chat_lines_become_a_dataset_and_bad_ones_are_counted(loop: Loop) -> None:
    bad = [
        '{"messages": []}\n',
        "no json\n",
        '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "x"}]}\n',
    ]
    text = "".join([*(chat(number) for number in range(200)), *bad])
    snapshot = import_dataset(loop.database, loop.blobs, text, assistant=CALLS, kind="extraction", licence="own", now=loop.clock)
    assert snapshot.rejected == {"schema": 3}
    assert snapshot.counts["train"] == 130
    assert snapshot.manifest["origins"] == {"import": 200}


def test_rows_of_unknown_licence_are_not_learnt(loop: Loop) -> None:
    with pytest.raises(UsageError, match="licence"):
        import_dataset(loop.database, loop.blobs, chat(1), assistant=CALLS, kind="extraction", licence="unknown", now=loop.clock)


def test_a_difference_names_what_came_and_went(called: Loop) -> None:
    before = load_rows(called.blobs, called.build(CALLS, "extraction"))
    called.call(50, user="agent01")
    after = load_rows(called.blobs, called.build(CALLS, "extraction"))
    found = difference(before, after)
    assert (len(found["added"]), found["removed"], found["moved"], found["unchanged"]) == (1, [], [], 216)
