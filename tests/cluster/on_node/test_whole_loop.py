"""The whole loop in pods on a real node: documents, answers, feedback, an adapter that users are moved to, and the way back.

Each test goes on where the one before it ended.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import openai
import pytest
from kubernetes import client
from sqlalchemy import func, select

from affinage.database.tables.answers import answer
from affinage.database.tables.feedback import feedback
from affinage.experiments.repository import list_experiments
from affinage.experiments.states import SPLITTING, State
from tests.charts.rendering import RELEASE
from tests.cluster.node import STATE, Node
from tests.cluster.on_node.installation import BASE, DOCUMENTS, NAMESPACE, SECONDS, Installation, installation
from tests.cluster.parts import get, prometheus
from tests.support.load import Load, under_load
from tests.support.process import PERMITS
from tests.support.programs import wait_for
from tests.support.tiny_llama import write_tiny_adapter

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(600)]
QUESTION = "How long is a parking permit valid?"
RIGHT = '{"next": "reply"}'
MODEL = "affinage.default.letters"
AGENTS, LETTERS = 24, 7
# 112 rows to learn from after the splits; no agent says more than a twentieth.
MOST_RATINGS, RATINGS_A_LOOK = 400, 24
LEAST_REQUESTS, LEAST_STREAMS = 2000, 60
PROMISES = """
import json, os, pathlib

def writable(folder):
    try:
        (pathlib.Path(folder) / "probe").write_text("x")
        (pathlib.Path(folder) / "probe").unlink()
    except OSError:
        return False
    return True

print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "writable": [folder for folder in ("/", "/app", "/opt/affinage", "/opt/packages", "/srv/documents") if writable(folder)],
    "closed": [folder for folder in ("/tmp", os.environ["HOME"], os.environ["AFFINAGE_HOME"]) if not writable(folder)],
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "database": "AFFINAGE_DATABASE_URL" in os.environ,
    "threads": os.environ.get("AFFINAGE_THREADS", "1"),
}))
"""


@pytest.fixture(scope="module")
def installed(
    node: Node, api: client.ApiClient, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory, imported: Future[float]
) -> Iterator[Installation]:
    with installation(node, api, kubeconfig, tmp_path_factory.mktemp("loop"), imported=imported) as running:
        yield running


@pytest.fixture(scope="module")
def agents(installed: Installation) -> list[openai.OpenAI]:
    """One client for each agent."""
    return installed.users(*(f"agent-{number}" for number in range(AGENTS)))


def ask(asking: openai.OpenAI, model: str, text: str) -> dict[str, Any]:
    reply = asking.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    told: dict[str, Any] = reply.model_extra["affinage"]  # type: ignore[index,assignment]
    return {"text": reply.choices[0].message.content, **told}


def say(asking: openai.OpenAI, given: dict[str, Any], **said: str) -> None:
    asking.post("/feedback", body={"answer_id": given["answer_id"], **said}, cast_to=object)


def usable(given: dict[str, Any]) -> bool:
    """Whether it is what an agent would have written."""
    try:
        return bool(json.loads(given["text"]) == json.loads(RIGHT))
    except ValueError:
        return False


def letter(number: int) -> str:
    """No two are alike, and all have the same length: a model of two layers knows no other."""
    return " ".join(f"word{number:04}of{n}" for n in range(4))


def served_by(installed: Installation, asking: openai.OpenAI) -> str | None:
    """The adapter of an answer that was given now."""
    answer_id = ask(asking, "letters", "letter")["answer_id"]
    with installed.app.database.read() as connection:
        found: str | None = connection.execute(select(answer.c.adapter).where(answer.c.answer_id == answer_id)).scalar_one()
    return found


def notebook(installed: Installation) -> MlflowClient:
    """What a data scientist has."""
    from mlflow import MlflowClient

    url = installed.parts.mlflow_url
    return MlflowClient(tracking_uri=url, registry_uri=url)


def champion_in_mlflow(installed: Installation) -> str:
    return str(notebook(installed).get_model_version_by_alias(MODEL, "champion").version)


def tuned(installed: Installation) -> list[dict[str, Any]]:
    """Variants of the assistant that have an adapter."""
    rows = installed.parts.affinage("adapter", "list", "--assistant", "letters")["variants"]
    return [row for row in rows if row["adapter"]]


@contextmanager
def prefect_client(installed: Installation) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = installed.parts.environment["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as prefect:
        yield prefect


def finished(installed: Installation, deployment: str) -> None:
    """Have the worker run a deployment from now on to its end. One that meets a scheduled run of the same is cancelled; then again."""
    with prefect_client(installed) as prefect:
        deployed = prefect.read_deployment_by_name(deployment).id

        def came_to() -> str | None:
            run = prefect.create_flow_run_from_deployment(deployed).id
            found = wait_for(lambda: _final(prefect, run), what=f"{deployment} does not end", seconds=SECONDS)
            return found if found != "Cancelled" else None

        ended = wait_for(came_to, what=f"Runs of {deployment} are always cancelled", seconds=SECONDS)
    assert ended == "Completed", installed.state()


def _final(prefect: SyncPrefectClient, run: UUID) -> str | None:
    state = prefect.read_flow_run(run).state
    return state.name if state and state.is_final() else None


def test_the_pods_are_as_promised(installed: Installation) -> None:
    for component in ("gateway", "controller", "embedder", f"generator-{BASE}", "worker"):
        for pod in installed.pods(component):
            assert all(status.restart_count == 0 for status in pod.status.container_statuses), component
        found = json.loads(installed.inside(pod, "python", "-c", PROMISES))
        models = component in ("embedder", f"generator-{BASE}")
        assert found == {"user": [10001, 10001], "writable": [], "closed": [], "token": False, "database": not models, "threads": "1"}


def test_nobody_is_let_in_without_a_token_and_helm_test_says_so(installed: Installation) -> None:
    assert installed.helm.test(RELEASE, timeout=SECONDS)


def test_corrections_become_a_variant_in_mlflow_by_a_run_in_the_worker(installed: Installation, agents: list[openai.OpenAI]) -> None:
    def correct(number: int) -> None:
        agent = agents[number % AGENTS]
        say(agent, ask(agent, "letters", letter(number)), correction=RIGHT)

    (worker,) = installed.pods("worker")
    registered = json.loads(installed.inside(worker, "affinage", "base", "add", f"/weights/{BASE}", "--json").splitlines()[-1])
    assert registered["base"] == BASE
    with ThreadPoolExecutor(4) as together:
        list(together.map(correct, range(AGENTS * LETTERS)))
    began = time.monotonic()
    finished(installed, "tune/letters")
    sys.stderr.write(f"\nTuned in {time.monotonic() - began:.0f} s.\n")
    (found,) = tuned(installed)
    assert (found["adapter_task"], found["state"]) == ("generator", "registered")


def test_a_scheduled_run_in_the_worker_indexes_and_the_gateway_answers_with_checked_quotes(installed: Installation) -> None:
    took = installed.until(
        lambda: installed.parts.affinage("index", "status")["sources"][0]["documents"] == len(DOCUMENTS),
        what="The scheduled run did not index",
    )
    sys.stderr.write(f"\nIndexed {took:.0f} s after it was looked for.\n")
    (controller,) = installed.pods("controller")
    metrics = f"http://{controller.status.pod_ip}:8401/metrics"
    # The run was a process of the worker that nobody could scrape.
    counted = re.compile(r'affinage_index_sync_duration_seconds_count\{source="handbook"\} [1-9]')
    installed.until(lambda: counted.search(get(metrics)), what="The controller counts no run")
    indexed = 'affinage_index_documents{source="handbook",state="indexed"} 3.0'
    installed.until(lambda: indexed in get(metrics), what="The controller shows no documents")
    (alice,) = installed.users("alice")
    reply = ask(alice, "guichet", QUESTION)
    assert reply["known"] is True
    (citation,) = reply["citations"]
    assert citation["document"] == "handbook/public/permits.md"
    assert citation["quote"] in PERMITS
    assert ask(alice, "guichet", "How many days of leave do staff have?")["known"] is False
    say(alice, reply, rating="up")
    with installed.app.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(feedback)).scalar_one() == AGENTS * LETTERS + 1
        assert connection.engine.dialect.name == "postgresql"
    # It has shown itself; a run in each minute would take a fifth of the processor from what follows.
    with prefect_client(installed) as prefect:
        prefect.pause_deployment(prefect.read_deployment_by_name("index/handbook").id)


def test_a_candidate_passes_the_gate_meets_users_and_is_promoted_by_their_thumbs(
    installed: Installation, agents: list[openai.OpenAI]
) -> None:
    """Nobody but the users' judgement chooses: they like what can be used, and know nothing of adapters."""
    (found,) = tuned(installed)
    notebook(installed).set_registered_model_alias(MODEL, "candidate", found["model_version"])
    finished(installed, "evaluate/candidates")
    (judged,) = installed.parts.affinage("adapter", "show", found["variant"])["gates"]
    assert judged["gate"] == "passed", judged
    installed.until(lambda: state(installed) in SPLITTING, what="The experiment does not begin")

    def rate(user: openai.OpenAI) -> None:
        given = ask(user, "letters", letter(1000))
        say(user, given, rating="up" if usable(given) else "down")

    with prometheus(installed.parts.folder, installed.scraped()) as url, ThreadPoolExecutor(4) as together:
        rated = 0
        while state(installed) is not State.PROMOTED:
            assert rated < MOST_RATINGS, installed.parts.affinage("experiment", "status")
            list(together.map(rate, installed.users(*(f"user-{rated + number}" for number in range(RATINGS_A_LOOK)))))
            rated += RATINGS_A_LOOK
        query = "sum%20by(arm,value)(affinage_feedback_total%7Bassistant=%22letters%22%7D)"

        def shown() -> bool:
            rows = json.loads(get(f"{url}/api/v1/query?query={query}"))["data"]["result"]
            return {(one["metric"]["arm"], one["metric"]["value"]) for one in rows} >= {("candidate", "up"), ("control", "down")}

        installed.until(shown, what="Prometheus does not show the thumbs of both arms")
        down = json.loads(get(f"{url}/api/v1/query?query=up==0"))["data"]["result"]
        assert down == [], "a target that the chart names does not answer"
    sys.stderr.write(f"\nPromoted after {rated} ratings.\n")
    assert served_by(installed, agents[0]) == found["adapter"]
    installed.until(lambda: champion_in_mlflow(installed) == found["model_version"], what="MLflow's alias did not follow")


def state(installed: Installation) -> State | None:
    """Of the newest experiment."""
    with installed.app.database.read() as connection:
        found = list_experiments(connection)
    return found[0].state if found else None


def test_an_alias_in_mlflow_is_an_adapter_on_both_pods_and_goes_back_at_once(installed: Installation, agents: list[openai.OpenAI]) -> None:
    before = served_by(installed, agents[0])
    science = notebook(installed)
    run = science.create_run(science.create_experiment("notebook"))
    science.log_artifacts(
        run.info.run_id, str(write_tiny_adapter(STATE / "weights" / BASE, installed.parts.folder / "other", seed=2)), "adapter"
    )
    made = science.create_model_version(MODEL, f"runs:/{run.info.run_id}/adapter", run.info.run_id)
    science.set_registered_model_alias(MODEL, "champion", made.version)
    forth = installed.until(lambda: served_by(installed, agents[0]) != before, what="The alias did not come true", limit=60)
    for agent in agents[:8]:
        assert served_by(installed, agent) != before, "both pods have it, or an answer would be refused"
    (controller,) = installed.pods("controller")
    began = time.monotonic()
    # Where the pods of the engine can be asked whether they have the adapter.
    said = installed.inside(controller, "affinage", "adapter", "rollback", "letters", "--json")
    assert "error" not in said, said
    installed.until(lambda: served_by(installed, agents[0]) == before, what="The rollback did not come true", limit=10)
    back = time.monotonic() - began
    sys.stderr.write(f"\nAlias to first answer by the new adapter on two pods: {forth:.1f} s; rollback: {back:.1f} s.\n")
    installed.until(lambda: champion_in_mlflow(installed) == tuned(installed)[0]["model_version"], what="MLflow's alias did not follow")


def test_generators_that_are_replaced_cost_no_answer(installed: Installation, agents: list[openai.OpenAI]) -> None:
    """The next one goes when the new one has its adapter: without any pod that has it, nobody could be answered."""
    number, component = count(2000), f"generator-{BASE}"
    adapter = str(served_by(installed, agents[0]))
    first = {pod.metadata.name for pod in installed.pods(component)}
    for gone in sorted(first):
        installed.core.delete_namespaced_pod(gone, NAMESPACE)

        def replaced(gone: str = gone) -> bool:
            assert usable(ask(agents[0], "letters", letter(next(number))))
            there = [pod for pod in installed.pods(component) if ready(pod) and pod.metadata.name != gone]
            return len(there) == len(first) and all(adapter in get(f"http://{pod.status.pod_ip}:3000/v1/models") for pod in there)

        took = installed.until(replaced, what="No pod comes in its place")
        sys.stderr.write(f"\nA generator's pod was replaced, with its adapter, in {took:.0f} s.\n")


def ready(pod: client.V1Pod) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or [])


def test_a_gateway_is_ready_soon_after_it_starts(installed: Installation) -> None:
    before = {pod.metadata.name for pod in installed.pods("gateway")}
    installed.core.delete_namespaced_pod(min(before), NAMESPACE)

    def running() -> client.V1PodStatus | None:
        new = [pod.status for pod in installed.pods("gateway") if pod.metadata.name not in before]
        return new[0] if new and new[0].pod_ip and new[0].container_statuses and new[0].container_statuses[0].state.running else None

    found = wait_for(running, what="No pod comes in its place", seconds=SECONDS)
    wait_for(lambda: status_of(f"http://{found.pod_ip}:8400/health/ready") == 200, what="The gateway is not ready", seconds=SECONDS)
    took = time.time() - found.container_statuses[0].state.running.started_at.timestamp()
    sys.stderr.write(f"\nGateway ready {took:.0f} s after its container started (to the second).\n")


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


def loaded(installed: Installation, change: Callable[[], None], *, least: bool = True) -> Load:
    """What clients met while the gateways were changed: short requests, and streams that outlive a gateway's notice."""
    key = installed.key("load")
    body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "A letter."}]}
    with under_load(
        installed.gateway, 8400, clients=2, streams=10, path="/health/ready", stream_path="/v1/chat/completions",
        headers=f"Authorization: Bearer {key}\r\n", stream_body=json.dumps(body).encode(),
    ) as load:  # fmt: skip
        wait_for(lambda: load.streamed or load.lost, what="No stream comes through", seconds=SECONDS)
        assert load.lost == []
        before = {pod.metadata.name for pod in installed.pods("gateway")}
        change()
        assert not before & {pod.metadata.name for pod in installed.pods("gateway")}

        def enough() -> bool:
            gone = {pod.metadata.name for pod in installed.core.list_namespaced_pod(NAMESPACE).items} & before
            return not gone and (not least or (load.answered >= LEAST_REQUESTS and load.streamed >= LEAST_STREAMS))

        wait_for(enough, what="The old gateways stay, or there is too little load", seconds=SECONDS)
    sys.stderr.write(f"\n{load.answered} requests and {load.streamed} streams over the change, {len(load.lost)} lost.\n")
    return load


def test_an_upgrade_of_the_gateway_loses_nothing(installed: Installation) -> None:
    """What the pods that go were told counts: the new ones here are told not to wait before they end, for the test after this one."""
    changed = {"gateway.logLevel": "WARNING", "gateway.preStopSleepSeconds": 0}

    def upgrade() -> None:
        planned = installed.rollout("plan", changed=changed)
        assert [(one["kind"], one["name"]) for one in planned["diff"]] == [("Deployment", f"{RELEASE}-gateway")]
        installed.rollout("apply", "--timeout", SECONDS, changed=changed)

    assert loaded(installed, upgrade).lost == []
    assert log_level(installed) == "WARNING"


def test_a_rollback_brings_it_back_and_without_the_wait_before_the_end_the_same_load_loses_some(installed: Installation) -> None:
    """The control of the test before: its load tells a careful rollout from a careless one."""

    def back() -> None:
        installed.helm.rollback(RELEASE, version=1, wait="watcher", timeout=SECONDS)

    assert loaded(installed, back, least=False).lost
    assert log_level(installed) == "INFO"


def log_level(installed: Installation) -> str | None:
    level: str | None = {one.name: one.value for one in installed.pods("gateway")[0].spec.containers[0].env}["AFFINAGE_LOG_LEVEL"]
    return level
