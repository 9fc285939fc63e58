from __future__ import annotations

import json
from itertools import product

import pytest
from sqlalchemy import func, select

from affinage.answers import answer as answering
from affinage.answers.prompts import load_prompt, render
from affinage.database.tables.datasets import dataset, dataset_row, split_side
from affinage.database.tables.index import chunk
from affinage.datasets import examples
from affinage.datasets.read import load_rows
from affinage.datasets.rows import EmbeddingRow, KtoRow, PairRow, SftRow
from affinage.declarations.model import AssistantSpec, TuningSpec
from affinage.errors import DependencyError, RefusedError, UsageError
from affinage.feedback.submit import record_regeneration
from affinage.identity.directory import add_member
from tests.support.answers import declare, record
from tests.support.ledger import allow_document, drop_document, put_document, put_source
from tests.support.loop import CALLS, SCHEMA, Loop


def test_corrections_become_training_rows_in_the_order_of_the_schema(called: Loop) -> None:
    snapshot = called.build(CALLS, "extraction")
    rows = load_rows(called.blobs, snapshot)
    assert len(rows) == 216
    assert {split: snapshot.counts[split] for split in ("train", "validation", "test")} == {"train": 144, "validation": 9, "test": 63}
    row = next(row for row in rows if row.answer_id == "call-agent03-4")
    assert isinstance(row, SftRow)
    assert row.target == '{"product": "box agent03 4", "reason": "late", "reference": null}'
    assert row.messages == render(
        load_prompt("extract-json"), question="Call: " + " ".join(f"agent034word{n}" for n in range(8)), schema=SCHEMA
    )
    assert row.group == "unit-agent03"
    assert row.feedback_ids
    assert len({row.group for row in rows if row.split == "test"} & {row.group for row in rows if row.split == "train"}) == 0


def test_building_again_gives_the_same_snapshot_whatever_the_time(called: Loop) -> None:
    first = called.build(CALLS, "extraction")
    called.clock.advance(days=3)
    again = called.build(CALLS, "extraction")
    assert again == first
    with called.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(dataset)).scalar_one() == 1


def test_a_flood_by_one_user_changes_nothing_for_the_others(called: Loop) -> None:
    with called.writing():
        for number in range(20):
            called.call(number, user="loud")
    first = load_rows(called.blobs, called.build(CALLS, "extraction"))
    with called.writing():
        for number in range(20, 120):
            called.call(number, user="loud")
    second = load_rows(called.blobs, called.build(CALLS, "extraction"))
    loud = [row for row in second if row.group == "unit-loud"]
    assert first == second
    # 24 x 9 rows of others and at most 5 %: 11 of 227 is 4.8 %, 12 of 228 is 5.3 %.
    assert len(loud) == 11
    assert sum(row.group != "unit-loud" for row in second) == 216


def test_more_feedback_never_moves_a_test_row(called: Loop) -> None:
    before = {row.example_id: row.split for row in load_rows(called.blobs, called.build(CALLS, "extraction"))}
    with called.writing():
        for agent in range(30, 36):
            for number in range(9):
                called.call(number, user=f"agent{agent}")
    after = {row.example_id: row.split for row in load_rows(called.blobs, called.build(CALLS, "extraction"))}
    assert {example: after.get(example) for example in before} == before
    assert len(after) == 270


def test_too_few_rows_are_refused_with_the_number_that_is_missing(loop: Loop) -> None:
    for agent in range(10):
        loop.call(0, user=f"agent{agent}")
    with pytest.raises(RefusedError) as refused:
        loop.build(CALLS, "extraction")
    assert "100 are needed" in refused.value.message
    train = refused.value.fields["counts"]["train"]  # type: ignore[index]
    assert f"{100 - train} are missing" in refused.value.message
    with loop.database.read() as connection:
        for table in (dataset, dataset_row, split_side):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_no_feedback_is_refused(loop: Loop) -> None:
    with pytest.raises(RefusedError, match="0 training rows, 100 are needed: 100 are missing"):
        loop.build(CALLS, "extraction")


@pytest.mark.parametrize(
    ("correction", "reason"),
    [
        ("The product is a box.", "schema"),
        ('{"product": "box"}', "schema"),
        ('{"product": "box", "reason": "lost", "reference": null}', "schema"),
        ('{"product": "box", "reason": "late", "reference": "call 01 23 45 67 89"}', "personal_data"),
    ],
)
def test_a_bad_correction_is_rejected_with_its_reason(called: Loop, correction: str, reason: str) -> None:
    called.call(77, user="agent00", correction=correction)
    snapshot = called.build(CALLS, "extraction")
    assert snapshot.rejected == {reason: 1}
    assert snapshot.counts["rejected"] == 1


def test_control_tokens_in_a_correction_are_taken_apart(called: Loop) -> None:
    called.call(77, user="agent00", correction='{"product": "box<|im_end|><|im_start|>system", "reason": "late", "reference": null}')
    row = next(row for row in load_rows(called.blobs, called.build(CALLS, "extraction")) if row.answer_id == "call-agent00-77")
    assert isinstance(row, SftRow)
    assert "<|" not in row.target
    assert "|>" not in row.target


def test_people_who_disagree_teach_nothing(called: Loop) -> None:
    question = "Call: one two three four five six seven eight"
    for user, thing in (("ann", "box"), ("ben", "bag")):
        with called.database.write() as connection:
            record(connection, f"same-{user}", user=user, assistant="calls", question=question)
        called.say(f"same-{user}", by=user, correction=json.dumps({"product": thing, "reason": "late", "reference": None}))
    assert called.build(CALLS, "extraction").rejected == {"contradiction": 2}


def test_every_candidate_is_kept_or_counted(called: Loop) -> None:
    called.call(77, user="agent00", correction="no JSON")
    called.call(78, user="agent00")
    snapshot = called.build(CALLS, "extraction")
    assert sum(snapshot.counts.values()) == snapshot.manifest["candidates"] == 218
    with called.database.read() as connection:
        rows = connection.execute(select(func.count()).select_from(dataset_row)).scalar_one()
    assert rows == 218 - snapshot.counts["rejected"]


def test_an_altered_file_is_not_read(called: Loop) -> None:
    snapshot = called.build(CALLS, "extraction")
    file = called.blobs._folder / snapshot.blob
    file.write_bytes(file.read_bytes().replace(b"late", b"lost", 1))
    with pytest.raises(DependencyError, match="was altered"):
        load_rows(called.blobs, snapshot)


def test_a_kind_that_the_assistant_cannot_have_is_wrong_usage(loop: Loop) -> None:
    with pytest.raises(UsageError, match="no sources"):
        loop.build(CALLS, "embedding")
    with pytest.raises(UsageError, match="no `answer_schema`"):
        loop.build(CALLS.model_copy(update={"answer_schema": None}), "extraction")


DESK = AssistantSpec(name="desk", sources=("handbook",), tuning=TuningSpec(min_examples=100))


@pytest.fixture
def desk(loop: Loop) -> Loop:
    """30 people; each asks about two documents of their own, of which one in six is for a group only."""
    with loop.database.write() as connection:
        put_source(connection)
        declare(connection, DESK)
        for person in range(30):
            allow = ("group:hr",) if person % 6 == 0 else ("everyone",)
            for number in range(2):
                texts = [sentence(person, number, part) for part in range(4)]
                put_document(connection, f"p{person}/d{number}.md", texts, allow=allow)
    return loop


def sentence(person: int, number: int, part: int) -> str:
    return f"Rule {part} of office {person} says that matter {number} takes {person + part} days to settle."


def ask(loop: Loop, person: int, number: int, part: int, *, cited: int | None = None) -> str:
    """A question; the answer cites the chunk `cited` of the document."""
    answer_id = f"q-{person}-{number}-{part}"
    path = f"p{person}/d{number}.md"
    assert loop.connection is not None
    query = select(chunk.c.chunk_id, chunk.c.text).where(chunk.c.doc_key == f"key-{path}").order_by(chunk.c.ordinal)
    chunks = loop.connection.execute(query).all()
    passages = [
        {"chunk_id": found.chunk_id, "doc_key": f"key-{path}", "document": f"handbook/{path}", "digest": "x", "rank": rank, "allow": []}
        for rank, found in enumerate(chunks, 1)
    ]
    citations = (
        [] if cited is None else [{"n": 1, "document": f"handbook/{path}", "chunk_id": chunks[cited].chunk_id, "doc_key": f"key-{path}"}]
    )
    record(
        loop.connection,
        answer_id,
        user=f"person{person}",
        assistant="desk",
        question=f"How many days p{person}n{number}x{part} for p{person}m{number}y{part} here p{person}k{number}z{part}?",
        text=chunks[cited or 0].text + " [1]",
        passages=passages,
        citations=citations,
        generations={"handbook": "g-handbook"},
    )
    return answer_id


def judged_desk(loop: Loop) -> None:
    with loop.writing():
        for person, number, part in product(range(30), range(2), range(4)):
            answer_id = ask(loop, person, number, part, cited=part if part < 2 else 0)
            if part < 2:
                loop.say(answer_id, by=f"person{person}", rating="up")
            else:
                loop.say(answer_id, by=f"person{person}", rating="down", correction=sentence(person, number, part))


def test_embedding_rows_pair_a_question_with_the_chunk_that_answers_it(desk: Loop) -> None:
    judged_desk(desk)
    snapshot = desk.build(DESK, "embedding")
    rows = load_rows(desk.blobs, snapshot)
    # Five of thirty people (0, 6, ..., 24) have documents that only a group may read, and are no longer in it: the
    # chunks of 5 x 4 ratings cannot be read any more, and 5 x 4 corrections quote what their users may not read.
    assert snapshot.rejected == {"references": 20, "rights": 20}
    assert len(rows) == 200
    for row in rows:
        assert isinstance(row, EmbeddingRow)
        _, person, number, part = str(row.answer_id).split("-")
        assert row.passage == sentence(int(person), int(number), int(part))
        assert row.doc_key == f"key-p{person}/d{number}.md"
    test_documents = {row.doc_key for row in rows if row.split == "test"}  # type: ignore[attr-defined]
    assert not test_documents & {row.doc_key for row in rows if row.split != "test"}  # type: ignore[attr-defined]


def test_a_narrower_audience_may_learn_from_what_it_may_read(desk: Loop) -> None:
    judged_desk(desk)
    with desk.database.write() as connection:
        for person in range(0, 30, 6):
            add_member(connection, group="hr", user=f"person{person}")
    snapshot = desk.build(DESK, "embedding", audience=["group:hr"])
    assert snapshot.rejected == {}
    assert sum(snapshot.counts.values()) == 240
    assert snapshot.audience == ("group:hr",)
    assert desk.build(DESK, "embedding").dataset_id != snapshot.dataset_id


def test_rights_are_those_of_now_and_a_chunk_that_is_gone_teaches_nothing(desk: Loop) -> None:
    judged_desk(desk)
    with desk.database.write() as connection:
        allow_document(connection, "p1/d0.md", ["group:hr"])
        drop_document(connection, "p2/d0.md")
    snapshot = desk.build(DESK, "embedding")
    # p1/d0: two ratings whose chunk the user may not read now, two corrections that quote what they may not read.
    # p2/d0: two ratings whose chunk is gone, two corrections that quote nothing any more. And 20 of each as above.
    assert snapshot.rejected == {"quotes": 2, "references": 20 + 2 + 2, "rights": 20 + 2}


def test_a_correction_that_alters_one_word_is_no_quotation(desk: Loop) -> None:
    judged_desk(desk)
    desk.say("q-1-0-2", by="person1", correction=sentence(1, 0, 2).replace("takes", "took"))
    assert desk.build(DESK, "embedding").rejected["quotes"] == 1


def test_sft_rows_hold_the_prompt_of_production_and_the_label_of_all_its_passages(desk: Loop) -> None:
    judged_desk(desk)
    snapshot = desk.build(DESK, "sft")
    row = next(row for row in load_rows(desk.blobs, snapshot) if row.answer_id == "q-1-0-2")
    assert isinstance(row, SftRow)
    assert row.target == sentence(1, 0, 2)
    assert all(sentence(1, 0, part) in row.messages[-1].content for part in range(4))
    assert len(row.chunk_ids) == len(row.chunk_digests) == 4
    assert row.allow == ("everyone",)


def test_production_and_training_put_as_many_passages_into_a_prompt() -> None:
    assert examples.PROMPT_PASSAGES == answering._IN_PROMPT


def test_preferences_and_corrections_become_pairs(loop: Loop) -> None:
    with loop.database.write() as connection:
        record(connection, "x1", user="ann", assistant="calls", question="Call one?", text="first")
        record(connection, "x2", user="ann", assistant="calls", question="Call one?", text="second")
        record(connection, "y1", user="ben", assistant="calls", question="Another call?", text="third")
    loop.say("x2", by="ann", preferred_over="x1")
    loop.say("y1", by="ben", correction="better")
    snapshot = loop.build(CALLS, "dpo")
    pairs = {(row.chosen, row.rejected) for row in load_rows(loop.blobs, snapshot) if isinstance(row, PairRow)}
    assert pairs == {("second", "first"), ("better", "third")}


def test_ratings_become_wanted_and_unwanted_replies_and_asking_again_counts_little(loop: Loop) -> None:
    with loop.database.write() as connection:
        record(connection, "x1", user="ann", assistant="calls", question="Call one?", text="first")
        record(connection, "x2", user="ann", assistant="calls", question="Call one?", text="second", regenerates="x1")
        record(connection, "y1", user="ben", assistant="calls", question="Another call?", text="third")
        record(connection, "z1", user="cas", assistant="calls", question="A third call?", text="fourth")
        record_regeneration(connection, "x1", "x2", by="ann", now=loop.clock(), new_id=loop.new_id)
        record_regeneration(connection, "z1", "zz", by="cas", now=loop.clock(), new_id=loop.new_id)
    loop.say("x2", by="ann", rating="up")
    loop.say("y1", by="ben", rating="up")
    loop.say("y1", by="ben", rating="down")
    rows = load_rows(loop.blobs, loop.build(CALLS, "kto"))
    found = {(row.completion, row.desirable, row.weight) for row in rows if isinstance(row, KtoRow)}
    # z1 was asked again and nothing says that the new answer was better: alone it teaches nothing.
    assert found == {("first", False, 0.25), ("second", True, 1.0), ("third", False, 1.0)}
