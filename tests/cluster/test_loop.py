"""The loop on the real parts: from a scheduled run to an answer, from an alias in MLflow to another answer, and back."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import openai
import pytest
import yaml
from sqlalchemy import select

from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.demo.calls import CALL_SCHEMA, Call, training_calls
from affinage.identity.keys import create_key
from affinage.wiring import Affinage
from tests.cluster.parts import Parts, get, outside, prometheus, seconds_until, serving
from tests.support.process import CANTEEN, LEAVE, PERMITS
from tests.support.programs import wait_for
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
RECIPE = """kind = "sft"
rank = 4
alpha = 8
dropout = 0.0
last_layers = 2
target_modules = ["q_proj", "v_proj"]
learning_rate = 1e-2
schedule = "cosine"
warmup_ratio = 0.05
epochs = 1
batch = 8
micro_batch = 4
max_tokens = 2048
max_grad_norm = 1.0
checkpoint_steps = 50
"""
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
        {
            "name": "appels", "task": "extract", "engine": "tiny", "sources": [], "prompt": "extract-json", "max_output_tokens": 8,
            "answer_schema": CALL_SCHEMA, "tuning": {"min_examples": 100, "recipe": "RECIPE"},
        },
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("loop")
    for name, text in {"public/permits.md": PERMITS, "public/cantine.md": CANTEEN, "hr/leave.md": LEAVE}.items():
        (folder / "handbook" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "handbook" / name).write_text(text, encoding="utf-8")
    base = write_tiny_llama(folder / "tiny", context_tokens=2048)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "affinage.yaml").write_text(yaml.safe_dump(DECLARED).replace("RECIPE", str(folder / "recipe.toml")))
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


def mlflow_client(parts: Parts) -> MlflowClient:
    """What a data scientist has in a notebook."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=parts.mlflow_url, registry_uri=parts.mlflow_url)


def register(parts: Parts, folder: Path) -> str:
    """What a data scientist does with a plain MLflow client; the version."""
    from mlflow.exceptions import MlflowException

    notebook = mlflow_client(parts)
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
    return str(mlflow_client(parts).get_model_version_by_alias(MODEL, "champion").version)


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


def test_corrections_become_a_variant_in_mlflow_by_a_tune_run_and_the_gate_judges_it_by_an_evaluate_run(parts: Parts) -> None:
    with closing(parts.installation()) as app, ThreadPoolExecutor(8) as agents:
        keys = {}
        with app.database.write() as connection:
            for user in {call.user for call in training_calls()}:
                keys[user] = create_key(connection, user=user, now=app.now(), new_id=app.new_id)[1]
        list(agents.map(lambda call: correct(parts, keys[call.user], call), training_calls()))
    finished(parts, "tune/appels")
    (tuned,) = (row for row in parts.affinage("adapter", "list", "--assistant", "appels")["variants"] if row["adapter"])
    assert (tuned["adapter_task"], tuned["state"]) == ("generator", "registered")
    notebook = mlflow_client(parts)
    notebook.set_registered_model_alias("affinage.default.appels", "candidate", tuned["model_version"])
    finished(parts, "evaluate/candidates")
    (judged,) = parts.affinage("adapter", "show", tuned["variant"])["gates"]
    # Random weights learn nothing of this: the word of the gate is its own, and it has the held-out rows behind it.
    assert judged["metrics"]["items"] > 0


def correct(parts: Parts, key: str, call: Call) -> None:
    """One agent asks and writes the right record."""
    asking = openai.OpenAI(base_url=f"{parts.gateway_url}/v1", api_key=key, max_retries=0, timeout=120)
    answer_id = ask(asking, "appels", call.text)["answer_id"]
    asking.post("/feedback", body={"answer_id": answer_id, "correction": call.expected_json()}, cast_to=object)


def finished(parts: Parts, deployment: str) -> None:
    """Have the worker run a deployment from now on to its end. One that meets a scheduled run of the same is cancelled; then again."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: parts.environment["PREFECT_API_URL"]}), get_client(sync_client=True) as prefect:
        deployed = prefect.read_deployment_by_name(deployment).id

        def came_to() -> str | None:
            run = prefect.create_flow_run_from_deployment(deployed).id
            found = wait_for(lambda: _final(prefect, run), what=f"{deployment} does not end", seconds=240, servers=parts.servers)
            return found if found != "Cancelled" else None

        ended = wait_for(came_to, what=f"Runs of {deployment} are always cancelled", seconds=240, servers=parts.servers)
    assert ended == "Completed", (parts.folder / "worker.log").read_text()[-3000:]


def _final(prefect: SyncPrefectClient, run: UUID) -> str | None:
    state = prefect.read_flow_run(run).state
    return state.name if state and state.is_final() else None


def test_a_scheduled_run_indexes_and_the_gateway_answers_with_checked_quotes_and_keeps_ratings(parts: Parts) -> None:
    seconds_until(
        lambda: parts.affinage("index", "status")["sources"][0]["documents"] == 3,
        what="The scheduled run did not index",
        parts=parts,
        limit=180,
    )
    # What the controller shows is of a process of the worker that nobody could scrape.
    for shown in (
        r'affinage_index_documents{source="handbook",state="indexed"} 3\.0',
        r'affinage_index_last_success_timestamp_seconds{source="handbook"} [1-9]',
        r'affinage_index_sync_duration_seconds_count{source="handbook"} [1-9]',
    ):
        seconds_until(lambda shown=shown: re.search(shown, get(f"{parts.controller_url}/metrics")), what=f"No {shown}", parts=parts)
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
        kept = select(feedback.c.rating).where(feedback.c.answer_id == reply["answer_id"])
        assert connection.execute(kept).scalars().all() == ["up"]
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
