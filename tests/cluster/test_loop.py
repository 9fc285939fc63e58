"""The loop on the real parts: from a scheduled run to an answer, from an alias in MLflow to another answer, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
import yaml
from sqlalchemy import func, select

from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.identity.keys import create_key
from affinage.wiring import Affinage
from tests.cluster.parts import Parts, get, outside, prometheus, seconds_until, serving
from tests.support.process import CANTEEN, LEAVE, PERMITS
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
QUESTION = "How long is a parking permit valid?"
MOST_RATINGS, RATINGS_A_LOOK = 400, 20
MODEL = "affinage.default.calls"
DECLARED = {
    "sources": [
        {
            "name": "handbook",
            "path": "handbook",
            "schedule": "* * * * *",
            "access": [{"match": "public/**", "allow": ["everyone"]}, {"match": "hr/**", "allow": ["group:hr"]}],
        }
    ],
    "assistants": [
        {"name": "guichet", "sources": ["handbook"]},
        {
            "name": "calls", "engine": "tiny", "sources": [], "prompt": "extract-json", "max_output_tokens": 8,
            "rollout": {"shares": [0.5], "min_units": 0, "min_days": 0},
        },
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("loop")
    for name, text in {"public/permits.md": PERMITS, "public/cantine.md": CANTEEN, "hr/leave.md": LEAVE}.items():
        (folder / "handbook" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "handbook" / name).write_text(text, encoding="utf-8")
    base = write_tiny_llama(folder / "tiny")
    (folder / "affinage.yaml").write_text(yaml.safe_dump(DECLARED))
    with outside(folder) as begun:
        assert begun.affinage("database", "migrate")["revision"]
        begun.affinage("base", "add", str(base))
        begun.affinage("apply", "-f", str(folder / "affinage.yaml"))
        with serving(begun, base=base) as running:
            deployed = json.loads(running.python("flows/deploy.py", "--pool", "affinage").splitlines()[-1])
            assert "index/handbook" in deployed["deployments"]
            yield running


def client(parts: Parts, user: str) -> openai.OpenAI:
    key = parts.affinage("key", "create", "--user", user)["key"]
    return openai.OpenAI(base_url=f"{parts.gateway_url}/v1", api_key=key, max_retries=0, timeout=60)


def ask(asking: openai.OpenAI, model: str, text: str) -> dict:  # type: ignore[type-arg]
    reply = asking.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return {"text": reply.choices[0].message.content, **reply.model_extra["affinage"]}  # type: ignore[dict-item]


def served_by(parts: Parts, asking: openai.OpenAI) -> str | None:
    """The adapter of an answer that was given now."""
    shown = parts.affinage("explain", ask(asking, "calls", "call 1")["answer_id"])
    found: str | None = shown["adapter"]
    return found


def register(parts: Parts, folder: Path) -> str:
    """What a data scientist does with a plain MLflow client; the version."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    notebook = MlflowClient(tracking_uri=parts.mlflow_url, registry_uri=parts.mlflow_url)
    try:
        notebook.create_registered_model(MODEL)
        experiment = notebook.create_experiment("notebook")
    except MlflowException:
        experiment = notebook.get_experiment_by_name("notebook").experiment_id
    run = notebook.create_run(experiment)
    notebook.log_artifacts(run.info.run_id, str(folder), "adapter")
    made = notebook.create_model_version(MODEL, f"runs:/{run.info.run_id}/adapter", run.info.run_id)
    notebook.set_registered_model_alias(MODEL, "champion", made.version)
    return str(made.version)


def champion_in_mlflow(parts: Parts) -> str:
    from mlflow import MlflowClient

    notebook = MlflowClient(tracking_uri=parts.mlflow_url, registry_uri=parts.mlflow_url)
    return str(notebook.get_model_version_by_alias(MODEL, "champion").version)


def test_an_alias_in_mlflow_is_an_adapter_on_the_pod_and_goes_back_at_once(parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    asking = client(parts, "bob")
    assert served_by(parts, asking) is None
    base = parts.folder / "tiny"
    register(parts, write_tiny_adapter(base, parts.folder / "one", seed=1))
    forth = seconds_until(lambda: served_by(parts, asking), what="The alias did not come true", parts=parts)
    first = served_by(parts, asking)
    register(parts, write_tiny_adapter(base, parts.folder / "two", seed=2))
    seconds_until(lambda: served_by(parts, asking) != first, what="The second alias did not come true", parts=parts)
    parts.affinage("adapter", "rollback", "calls")
    back = seconds_until(lambda: served_by(parts, asking) == first, what="The rollback did not come true", parts=parts)
    seconds_until(lambda: champion_in_mlflow(parts) == "1", what="MLflow's alias did not follow", parts=parts)
    with capsys.disabled():
        sys.stderr.write(f"\nAlias to first answer by the new adapter: {forth:.1f} s; rollback: {back:.1f} s.\n")


def test_a_pod_that_starts_again_gets_its_adapter_again(parts: Parts) -> None:
    asking = client(parts, "carol")
    before = served_by(parts, asking)
    assert before is not None
    parts.kill_generator()
    with pytest.raises(openai.InternalServerError) as refused:
        ask(asking, "calls", "call 2")
    assert refused.value.status_code == 503
    parts.start_generator()

    def again() -> bool:
        try:
            return served_by(parts, asking) == before
        except openai.InternalServerError:  # a 503; any other answer would be another adapter, or the bare base in its place
            return False

    seconds_until(again, what="The adapter did not come back", parts=parts)


def test_the_evidence_promotes_and_prometheus_shows_the_thumbs_of_each_arm(parts: Parts) -> None:
    """The champion's rival of the test before is countersigned: users like it, and it becomes the champion by itself."""
    rows = parts.affinage("adapter", "list", "--assistant", "calls")["variants"]
    (rival,) = (row for row in rows if row["adapter"] and row["state"] == "countersigned")
    parts.affinage("experiment", "start", "calls", "--candidate", rival["variant"])
    with prometheus(parts) as url, closing(parts.installation()) as app:
        rated = 0
        while parts.affinage("experiment", "status")["state"] != "PROMOTED":
            assert rated < MOST_RATINGS, "the evidence does not decide"
            for number in range(rated, rated + RATINGS_A_LOOK):
                rate(parts, app, f"user-{number}", likes=rival["adapter"])
            rated += RATINGS_A_LOOK
        query = "sum%20by(arm,value)(affinage_feedback_total%7Bassistant=%22calls%22%7D)"

        def shown() -> bool:
            found = json.loads(get(f"{url}/api/v1/query?query={query}"))["data"]["result"]
            return {(one["metric"]["arm"], one["metric"]["value"]) for one in found} >= {("candidate", "up"), ("control", "down")}

        seconds_until(shown, what="Prometheus does not show the thumbs of both arms", parts=parts)
    seconds_until(lambda: champion_in_mlflow(parts) == rival["model_version"], what="MLflow's alias did not follow", parts=parts)


def test_a_scheduled_run_indexes_and_the_gateway_answers_with_checked_quotes_and_keeps_ratings(parts: Parts) -> None:
    seconds_until(
        lambda: parts.affinage("index", "status")["sources"][0]["documents"] == 3,
        what="The scheduled run did not index",
        parts=parts,
        limit=180,
    )
    assert 'affinage_index_documents{source="handbook",state="indexed"} 3.0' in get(f"{parts.controller_url}/metrics")
    assert "affinage_index_last_success_timestamp_seconds" in get(f"{parts.controller_url}/metrics")
    alice = client(parts, "alice")
    reply = ask(alice, "guichet", QUESTION)
    assert reply["known"] is True
    (citation,) = reply["citations"]
    assert citation["document"] == "handbook/public/permits.md"
    assert citation["quote"] in PERMITS
    assert ask(alice, "guichet", "How many days of leave do staff have?")["known"] is False
    alice.post("/feedback", body={"answer_id": reply["answer_id"], "rating": "up"}, cast_to=object)
    app = parts.installation()
    with app.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(feedback)).scalar_one() == 1
        assert connection.engine.dialect.name == "postgresql"
    app.close()


def rate(parts: Parts, app: Affinage, user: str, *, likes: str) -> None:
    """One user asks, and likes the answer of one adapter."""
    with app.database.write() as connection:
        key = create_key(connection, user=user, now=app.now(), new_id=app.new_id)[1]
    asking = openai.OpenAI(base_url=f"{parts.gateway_url}/v1", api_key=key, max_retries=0, timeout=60)
    answer_id = ask(asking, "calls", "call")["answer_id"]
    with app.database.read() as connection:
        by = connection.execute(select(answer.c.adapter).where(answer.c.answer_id == answer_id)).scalar_one()
    asking.post("/feedback", body={"answer_id": answer_id, "rating": "up" if by == likes else "down"}, cast_to=object)
