from __future__ import annotations

import pytest
from sqlalchemy import insert

from affinage.database.engine import Database
from affinage.database.tables.datasets import dataset, dataset_row
from affinage.database.tables.identity import role_binding
from affinage.database.tables.registry import gate_result, training_run, variant
from affinage.errors import UnknownObjectError
from affinage.identity.rights import reader
from affinage.lineage.explain import explain
from tests.support.answers import AT, record
from tests.support.ledger import allow_document, put_document, put_source


@pytest.fixture
def explained(database: Database) -> Database:
    """One answer of a tuned variant over a source whose embedder was tuned as well."""
    with database.write() as connection:
        put_source(connection, embedder={"name": "package:minilm", "adapter": "desk@eeeeeeee"})
        (chunk_id,) = put_document(connection, "a.md", ["The delay is ten days."])
        common = {"organisation": "default", "assistant": "desk", "tainted": False, "created_at": AT}
        for variant_id, adapter, dataset_id, run_id in (
            ("tuned", "desk@aaaaaaaa", "desk.sft.1", "run-1"),
            ("embed", "desk@eeeeeeee", "desk.embedding.1", None),
            ("later", "desk@eeeeeeee", None, None),
        ):
            values = {
                "variant_id": variant_id,
                "spec": {"engine": "x"},
                "adapter": adapter,
                "dataset_id": dataset_id,
                "run_id": run_id,
                **common,
            }
            connection.execute(insert(variant).values(**values))
        connection.execute(
            insert(training_run).values(
                run_id="run-1",
                assistant="desk",
                dataset_id="desk.sft.1",
                recipe={"rank": 16},
                state="finished",
                folder="f",
                metrics={"loss": 0.1},
                created_at=AT,
            )
        )
        connection.execute(
            insert(gate_result).values(
                gate_id="gate-1",
                variant_id="tuned",
                dataset_id="desk.sft.1",
                passed=True,
                reasons=[],
                metrics={"difference": 0.2},
                created_at=AT,
            )
        )
        for name, kind in (("desk.sft.1", "sft"), ("desk.embedding.1", "embedding")):
            connection.execute(
                insert(dataset).values(
                    dataset_id=name,
                    digest=name,
                    organisation="default",
                    assistant="desk",
                    kind=kind,
                    audience=["everyone"],
                    counts={"train": 1, "validation": 0, "test": 1, "rejected": 0},
                    rejected={},
                    manifest={},
                    blob="b",
                    tainted=False,
                    created_at=AT,
                )
            )
            for split in ("train", "test"):
                connection.execute(
                    insert(dataset_row).values(
                        dataset_id=name,
                        example_id=split,
                        split=split,
                        user_name="bob",
                        answer_id="old",
                        feedback_ids=[f"f-{split}"],
                        doc_keys=["key-a.md"],
                        chunk_ids=[chunk_id],
                    )
                )
        connection.execute(insert(role_binding).values(organisation="default", role="operator", group_name="ops"))
        passage = {
            "chunk_id": chunk_id,
            "doc_key": "key-a.md",
            "document": "handbook/a.md",
            "digest": "d",
            "rank": 1,
            "allow": ["everyone"],
        }
        record(connection, "old", user="bob", assistant="desk")
        record(
            connection,
            "new",
            user="alice",
            assistant="desk",
            variant_id="tuned",
            passages=[passage],
            generations={"handbook": "g-handbook"},
        )
    return database


def test_the_operator_sees_the_way_back_to_each_judgement(explained: Database) -> None:
    with explained.read() as connection:
        found = explain(connection, "new", reader=None)
    keys = [
        "question",
        "passages",
        "prompt_digest",
        "generation",
        "variant",
        "adapter",
        "arm",
        "q",
        "guardrails",
        "tokens",
        "seconds",
        "lineage",
    ]
    assert set(keys) <= set(found)
    origins = {origin["adapter"]: origin for origin in found["lineage"]["adapters"]}
    assert set(origins) == {"desk@aaaaaaaa", "desk@eeeeeeee"}
    tuned = origins["desk@aaaaaaaa"]
    assert tuned["run"] == {"run_id": "run-1", "recipe": {"rank": 16}, "metrics": {"loss": 0.1}}
    assert [gate["gate_id"] for gate in tuned["gate"]] == ["gate-1"]
    # Only what was learnt from: the test split is not.
    assert tuned["dataset"]["rows"] == [
        {
            "example_id": "train",
            "split": "train",
            "feedback_ids": ["f-train"],
            "user": "unit-bob",
            "answer_id": "old",
            "documents": ["handbook/a.md"],
        }
    ]
    assert origins["desk@eeeeeeee"]["dataset"]["dataset_id"] == "desk.embedding.1"
    assert "text" not in found["passages"][0]


def test_its_user_sees_the_passages_and_no_other_persons_feedback(explained: Database) -> None:
    with explained.read() as connection:
        found = explain(connection, "new", reader=reader("alice"))
    assert found["passages"][0]["text"] == "The delay is ten days."
    data = found["lineage"]["adapters"][0]["dataset"]
    assert data["learnt_from"] == {"rows": 1, "feedback": 1, "users": 1, "documents": 1}
    assert "rows" not in data
    assert "unit-bob" not in str(found)


def test_a_passage_that_the_user_may_no_longer_read_is_not_shown(explained: Database) -> None:
    with explained.write() as connection:
        allow_document(connection, "a.md", ["group:hr"])
        found = explain(connection, "new", reader=reader("alice"))
    assert found["passages"][0]["document"] is None
    assert found["passages"][0]["text"] is None
    assert "handbook/a.md" not in str(found["passages"])


def test_somebody_else_cannot_tell_it_from_one_that_does_not_exist(explained: Database) -> None:
    with explained.read() as connection:
        messages = []
        for answer_id in ("new", "nnn"):
            with pytest.raises(UnknownObjectError) as refused:
                explain(connection, answer_id, reader=reader("mallory"))
            messages.append(str(refused.value).replace(answer_id, "X"))
        assert messages[0] == messages[1]


def test_a_member_of_an_operator_group_may_ask(explained: Database) -> None:
    with explained.read() as connection:
        found = explain(connection, "new", reader=reader("oscar", ["ops"]))
    assert found["lineage"]["adapters"][0]["dataset"]["rows"]
