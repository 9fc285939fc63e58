"""One case for each value that changes what is made."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml

from affinage.declarations.model import parse_declarations
from tests.charts.conftest import Render
from tests.charts.rendering import CHART, values_file
from tests.support.manifests import containers, environment

DIGEST = "sha256:" + "ab" * 32
GPU = "nvidia.com/gpu"
CLAIM = {"weights": {"existingClaim": "weights"}}


def image(render: Render, values: dict[str, Any], name: str = "affinage-gateway") -> str:
    return str(render(values).pod("Deployment", name)["containers"][0]["image"])


def test_an_image_has_the_version_of_the_chart_a_tag_or_a_digest(render: Render) -> None:
    assert image(render, {}) == "affinage/gateway:0.1.0"
    assert image(render, {"images.gateway.tag": "0.2.0"}) == "affinage/gateway:0.2.0"
    assert image(render, {"images.gateway.digest": DIGEST}) == f"affinage/gateway@{DIGEST}"
    assert image(render, {"images.gateway.tag": "0.2.0", "images.gateway.digest": DIGEST}) == f"affinage/gateway:0.2.0@{DIGEST}"
    assert (
        image(render, {"images.gateway.repository": "registry.example.org:5000/a/gateway"}) == "registry.example.org:5000/a/gateway:0.1.0"
    )


def test_each_process_runs_its_image(render: Render) -> None:
    objects = render({f"images.{name}.tag": f"1.0.0-{name}" for name in ("gateway", "embedder", "generator", "worker")})
    used = {where.replace("affinage-", ""): {c["image"].split("-", 1)[1] for c in containers(pod["spec"])} for where, pod in objects.pods()}
    assert used == {
        "Deployment gateway": {"gateway"},
        "Deployment controller": {"worker"},
        "Deployment embedder": {"embedder"},
        "Deployment generator-smollm2": {"generator"},
        "Deployment worker": {"worker"},
        "Job migration": {"gateway"},
        "Job schedules": {"worker"},
        "Pod test": {"gateway"},
    }


def test_a_pool_may_try_another_image(render: Render) -> None:
    def of_pool(given: dict[str, Any], common: dict[str, Any]) -> str:
        return image(
            render,
            {"generators": {"big": {"engine": "big", "image": given, **CLAIM}}, "images.generator": common},
            "affinage-generator-big",
        )

    assert of_pool({}, {"tag": "0.1.5"}) == "affinage/generator:0.1.5"
    assert of_pool({"tag": "0.2.0"}, {}) == "affinage/generator:0.2.0"
    # Otherwise the common digest would silently win over the pool's tag.
    assert of_pool({"tag": "0.2.0"}, {"digest": DIGEST}) == "affinage/generator:0.2.0"
    assert of_pool({"digest": DIGEST}, {"tag": "0.1.5"}) == f"affinage/generator@{DIGEST}"
    assert of_pool({"pullPolicy": "Always"}, {"digest": DIGEST}) == f"affinage/generator@{DIGEST}"


def test_pull_secrets_and_policies(render: Render) -> None:
    objects = render({"imagePullSecrets": [{"name": "registry"}], "images.gateway.pullPolicy": "Always"})
    assert all(pod["spec"]["imagePullSecrets"] == [{"name": "registry"}] for _, pod in objects.pods())
    assert objects.pod("Deployment", "affinage-gateway")["containers"][0]["imagePullPolicy"] == "Always"


def gateway(render: Render, values: dict[str, Any]) -> dict[str, Any]:
    return environment(render(values).pod("Deployment", "affinage-gateway")["containers"][0])


def test_addresses_reach_the_processes(render: Render) -> None:
    found = gateway(
        render, {"blobs.endpointUrl": "https://s3.example.org", "vectors.grpcPort": 50052, "gateway.egressHosts": ["a.org", "b.org"]}
    )
    assert found["AFFINAGE_DATABASE_URL"] == {"secretKeyRef": {"name": "affinage-database", "key": "url"}}
    assert found["AFFINAGE_VECTORS_URL"] == "http://weaviate.weaviate.svc:8080"
    assert found["AFFINAGE_VECTORS_GRPC_PORT"] == "50052"
    assert found["AFFINAGE_BLOBS_URL"] == "s3://affinage/production"
    assert found["AFFINAGE_S3_ENDPOINT_URL"] == "https://s3.example.org"
    assert found["AFFINAGE_EMBEDDER_URL"] == "http://affinage-embedder:3000"
    assert found["AFFINAGE_EGRESS_HOSTS"] == "a.org,b.org"
    assert "AFFINAGE_REGISTRY_URL" not in found
    assert "PREFECT_API_URL" not in found
    worker = environment(render().pod("Deployment", "affinage-worker")["containers"][0])
    assert worker["AFFINAGE_REGISTRY_URL"] == "http://mlflow.mlflow.svc:5000"
    assert worker["PREFECT_API_URL"] == "http://prefect-server.prefect.svc:4200/api"
    assert worker["AFFINAGE_FLOWS"] == "/app/flows"


def test_keys_of_secrets_can_be_named(render: Render) -> None:
    found = gateway(render, {"database.key": "dsn", "vectors.existingSecret": "weaviate", "vectors.key": "k"})
    assert found["AFFINAGE_DATABASE_URL"]["secretKeyRef"]["key"] == "dsn"
    assert found["AFFINAGE_VECTORS_API_KEY"] == {"secretKeyRef": {"name": "weaviate", "key": "k"}}
    assert "AFFINAGE_VECTORS_API_KEY" not in gateway(render, {})


def test_databases_of_sources_are_known_where_syncs_run_and_nowhere_else(render: Render) -> None:
    values = {"worker.connections": {"procedures": {"existingSecret": "procedures", "key": "url"}}}
    found = {name: environment(pod["spec"]["containers"][0]) for name, pod in render(values).pods()}
    assert {name for name, variables in found.items() if "AFFINAGE_CONNECTION_PROCEDURES" in variables} == {"Deployment affinage-worker"}
    reference = {"secretKeyRef": {"name": "procedures", "key": "url"}}
    assert found["Deployment affinage-worker"]["AFFINAGE_CONNECTION_PROCEDURES"] == reference
    template = render({**values, "worker.jobTemplate.enabled": True}).one("ConfigMap", "affinage-job-template")["data"]
    assert "AFFINAGE_CONNECTION_PROCEDURES" in next(iter(template.values()))


def test_pools_are_addressed_by_their_engines(render: Render) -> None:
    big = {"engine": "llama-3-8b", "gpus": 1, **CLAIM}
    assert gateway(render, {})["AFFINAGE_GENERATORS"] == "package:smollm2=http://affinage-generator-smollm2:3000"
    found = gateway(render, {"generators": {"big": big}})["AFFINAGE_GENERATORS"].split(",")
    assert found == ["llama-3-8b=http://affinage-generator-big:3000", "package:smollm2=http://affinage-generator-smollm2:3000"]
    assert "AFFINAGE_GENERATORS" not in gateway(render, {"generators": {"smollm2": None}})
    objects = render({"generators": {"big": big}})
    service = objects.one("Service", "affinage-generator-big")["spec"]
    assert service["clusterIP"] == "None"
    (container,) = objects.pod("Deployment", "affinage-generator-big")["containers"]
    assert environment(container)["AFFINAGE_GENERATOR_ENGINE"] == "/weights/llama-3-8b"


def test_a_gpu_is_requested_as_it_is_limited_and_its_taint_tolerated(render: Render) -> None:
    values = {"generators": {"big": {"engine": "big", "gpus": 2, **CLAIM}}, "embedder.gpus": 1, "worker.gpus": 4}
    for name, count in (("generator-big", 2), ("embedder", 1), ("worker", 4)):
        pod = render(values).pod("Deployment", f"affinage-{name}")
        resources = pod["containers"][0]["resources"]
        assert resources["limits"][GPU] == resources["requests"][GPU] == str(count)
        assert pod["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
        bare = render({"generators": {"big": {"engine": "big", **CLAIM}}}).pod("Deployment", f"affinage-{name}")
        assert "tolerations" not in bare
        # Beside its GPU a pod keeps what it had.
        for bound in ("requests", "limits"):
            assert {key: value for key, value in resources[bound].items() if key != GPU} == bare["containers"][0]["resources"][bound]


def test_weights_come_from_a_claim_and_are_read_only(render: Render) -> None:
    pod = render({"generators": {"big": {"engine": "/weights/big", "weights": {"existingClaim": "w"}}}}).pod(
        "Deployment", "affinage-generator-big"
    )
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "w", "readOnly": True}} in pod["volumes"]


@pytest.mark.parametrize(
    ("engine", "folder", "loaded"),
    [
        ("mistral-small", "", "/weights/mistral-small"),
        ("base:mistral-small", "", "/weights/mistral-small"),
        ("mistral-small", "2026/mistral", "/weights/2026/mistral"),
        ("/weights/mistral", "", "/weights/mistral"),
    ],
)
def test_a_pool_loads_a_folder_and_is_asked_for_by_its_engine(render: Render, engine: str, folder: str, loaded: str) -> None:
    values = {"generators": {"big": {"engine": engine, "precision": "float32", "weights": {"existingClaim": "w", "folder": folder}}}}
    found = environment(render(values).pod("Deployment", "affinage-generator-big")["containers"][0])
    assert found["AFFINAGE_GENERATOR_ENGINE"] == loaded
    assert found["AFFINAGE_GENERATOR_PRECISION"] == "float32"
    assert f"{engine}=http://affinage-generator-big:3000" in gateway(render, values)["AFFINAGE_GENERATORS"].split(",")


def test_a_pool_with_vllm_has_its_image_and_shared_memory(render: Render) -> None:
    vllm = {"runtime": "vllm", "image": {"repository": "affinage/generator-vllm"}}
    pod = render({"generators": {"smollm2": vllm}}).pod("Deployment", "affinage-generator-smollm2")
    (container,) = pod["containers"]
    assert container["image"] == "affinage/generator-vllm:0.1.0"
    assert environment(container)["AFFINAGE_GENERATOR_RUNTIME"] == "vllm"
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in pod["volumes"]
    usual = render().pod("Deployment", "affinage-generator-smollm2")
    assert environment(usual["containers"][0])["AFFINAGE_GENERATOR_RUNTIME"] == "transformers"
    assert not [volume for volume in usual["volumes"] if volume["name"] == "shm"]


def test_documents_come_from_a_claim_to_what_indexes_them(render: Render) -> None:
    objects = render({"worker.documents.existingClaim": "d", "worker.jobTemplate.enabled": True})
    having = {where for where, pod in objects.pods() if any(v["name"] == "documents" for v in pod["spec"].get("volumes", []))}
    assert having == {"Deployment affinage-worker", "ConfigMap affinage-job-template, job template"}
    (container,) = objects.pod("Deployment", "affinage-worker")["containers"]
    assert environment(container)["AFFINAGE_SOURCE_ROOTS"] == "/srv/documents"


def test_weights_and_packages_come_from_claims_to_what_trains_and_generates(render: Render) -> None:
    objects = render({"packages.existingClaim": "p", "worker.weights.existingClaim": "w", "worker.jobTemplate.enabled": True})
    flows = {"Deployment affinage-worker", "ConfigMap affinage-job-template, job template"}
    assert {where for where, pod in objects.pods() if mounted(pod, "/weights")} == flows
    assert {where for where, pod in objects.pods() if mounted(pod, "/opt/packages")} == {*flows, "Deployment affinage-generator-smollm2"}
    for where, pod in objects.pods():
        (container, *_) = pod["spec"]["containers"]
        assert (environment(container).get("PYTHONPATH") == "/opt/packages") == mounted(pod, "/opt/packages"), where


def mounted(pod: dict[str, Any], path: str) -> bool:
    """Whether a claim is mounted there, and for reading only."""
    claims = {one["name"]: one["persistentVolumeClaim"] for one in pod["spec"].get("volumes", []) if "persistentVolumeClaim" in one}
    places = [one for one in pod["spec"]["containers"][0].get("volumeMounts", []) if one["mountPath"] == path]
    assert all(one["readOnly"] and claims[one["name"]]["readOnly"] for one in places)
    return bool(places)


@pytest.mark.parametrize("name", ["gateway", "controller", "embedder", "worker"])
def test_replicas_places_sizes_and_levels(render: Render, name: str) -> None:
    toleration = {"key": "dedicated", "operator": "Equal", "value": name, "effect": "NoSchedule"}
    values = {
        f"{name}.replicas": 7,
        f"{name}.nodeSelector": {"zone": "a"},
        f"{name}.tolerations": [toleration],
        f"{name}.homeSize": "3Gi",
        f"{name}.logLevel": "DEBUG",
        f"{name}.resources.limits.memory": "9Gi",
    }
    deployment = render(values).one("Deployment", f"affinage-{name}")
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 7
    assert pod["nodeSelector"] == {"zone": "a"}
    assert pod["tolerations"] == [toleration]
    assert {"name": "home", "emptyDir": {"sizeLimit": "3Gi"}} in pod["volumes"]
    assert environment(pod["containers"][0])["AFFINAGE_LOG_LEVEL"] == "DEBUG"
    assert pod["containers"][0]["resources"]["limits"]["memory"] == "9Gi"


def test_an_autoscaler_takes_the_number_of_gateways_over(render: Render) -> None:
    objects = render({"gateway.autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9, "targetCpuPercent": 60}})
    assert "replicas" not in objects.one("Deployment", "affinage-gateway")["spec"]
    scaler = objects.one("HorizontalPodAutoscaler", "affinage-gateway")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert scaler["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    assert render().all("HorizontalPodAutoscaler") == []


@pytest.mark.parametrize(("seconds", "failures"), [(5, 1), (6, 2), (300, 60), (1800, 360)])
def test_a_model_has_the_time_it_needs_to_load(render: Render, seconds: int, failures: int) -> None:
    # A probe every five seconds: at least `seconds` pass before the pod is given up.
    objects = render({"embedder.startupSeconds": seconds, "generators.smollm2.startupSeconds": seconds, "gateway.startupSeconds": seconds})
    for name in ("embedder", "generator-smollm2", "gateway"):
        probe = objects.pod("Deployment", f"affinage-{name}")["containers"][0]["startupProbe"]
        assert (probe["periodSeconds"], probe["failureThreshold"]) == (5, failures)
    # Helm waits for a Deployment until its own deadline: it must not be the shorter one.
    assert objects.one("Deployment", "affinage-generator-smollm2")["spec"]["progressDeadlineSeconds"] > seconds


def test_null_removes_a_pool_whoever_named_it(render: Render) -> None:
    objects = render({"generators": {"smollm2": None, "big": None, "small": {"engine": "small", **CLAIM}}})
    assert {one["metadata"]["name"] for one in objects.all("Deployment") if "generator" in one["metadata"]["name"]} == {
        "affinage-generator-small"
    }


def test_zero_is_a_value_of_a_pool_and_not_a_missing_one(render: Render) -> None:
    zeros = {"engine": "big", **CLAIM, "replicas": 0, "minReadySeconds": 0, "preStopSleepSeconds": 0}
    deployment = render({"generators": {"big": zeros}}).one("Deployment", "affinage-generator-big")
    assert deployment["spec"]["replicas"] == 0
    assert deployment["spec"]["minReadySeconds"] == 0
    assert "lifecycle" not in deployment["spec"]["template"]["spec"]["containers"][0]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 55


def test_a_new_pod_of_a_pool_waits_for_its_adapters(render: Render) -> None:
    assert (
        render({"generators.smollm2.minReadySeconds": 90}).one("Deployment", "affinage-generator-smollm2")["spec"]["minReadySeconds"] == 90
    )


def test_the_worker_has_its_time_to_end(render: Render) -> None:
    assert (
        render({"worker.terminationGracePeriodSeconds": 900}).pod("Deployment", "affinage-worker")["terminationGracePeriodSeconds"] == 900
    )


def test_declarations_are_applied_before_anything_changes(render: Render) -> None:
    declarations = values_file("everything")["declarations"]
    objects = render({"declarations": declarations})
    config = objects.one("ConfigMap", "affinage-declarations")
    told = yaml.safe_load(config["data"]["declarations.yaml"])
    assert {key: value for key, value in told.items() if value} == declarations
    # What the schema leaves open is what `affinage apply` reads.
    assert parse_declarations(told, folder=CHART, origin="values").assistants[0].name == "guichet"
    job = objects.one("Job", "affinage-migration")
    order = {one["metadata"]["name"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in (config, job)}
    assert order["affinage-declarations"] < order["affinage-migration"]
    pod = job["spec"]["template"]["spec"]
    assert [c["command"] for c in containers(pod)] == [
        ["affinage", "database", "migrate"],
        ["affinage", "apply", "-f", "/etc/affinage/declarations.yaml", "--prune"],
    ]


def test_a_changed_declaration_changes_the_checksum(render: Render) -> None:
    def checksum(declared: dict[str, Any]) -> str:
        template = render({"declarations": declared}).one("Job", "affinage-migration")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    role = {"role": "owner", "group": "dsi"}
    assert checksum({"roles": [role]}) == checksum({"roles": [role]}) != checksum({"roles": [{**role, "group": "drh"}]})


def test_nothing_declared_removes_nothing(render: Render) -> None:
    objects = render()
    assert ("ConfigMap", "affinage-declarations") not in objects.names()
    assert [c["command"] for c in containers(objects.pod("Job", "affinage-migration"))] == [["affinage", "database", "migrate"]]


def test_the_migration_can_be_left_to_a_person(render: Render) -> None:
    objects = render({"migration.enabled": False})
    assert not [one for one in objects.objects if "migration" in one["metadata"]["name"]]
    assert render({"migration.timeoutSeconds": 60}).one("Job", "affinage-migration")["spec"]["activeDeadlineSeconds"] == 60


def test_prefect_is_told_the_schedules_after_each_change(render: Render) -> None:
    job = render().one("Job", "affinage-schedules")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "deploy.py", "--pool", "affinage"]
    jobs = render({"worker.enabled": False, "worker.jobTemplate.enabled": True})
    pod = jobs.pod("Job", "affinage-schedules")
    *_, option, file = containers(pod)[0]["command"]
    (mount,) = [one for one in containers(pod)[0]["volumeMounts"] if one["name"] == "job-template"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "job-template"]
    written = jobs.one("ConfigMap", volume["configMap"]["name"])["data"]
    assert (option, file) in {("--job-template", f"{mount['mountPath']}/{name}") for name in written}
    for values in ({"worker.schedules.enabled": False}, {"worker.enabled": False, "prefect.apiUrl": ""}):
        assert not {("Job", "affinage-schedules"), ("NetworkPolicy", "affinage-schedules")} & render(values).names()


def test_the_job_template_is_one_that_prefect_fills_in(render: Render) -> None:
    """Prefect's own template engine, on the values of one run."""
    from prefect.utilities.templating import apply_values, find_placeholders

    objects = render({"worker.jobTemplate.enabled": True})
    template = json.loads(objects.one("ConfigMap", "affinage-job-template")["data"]["base-job-template.json"])
    assert set(template) == {"job_configuration", "variables"}
    asked = {placeholder.name for placeholder in find_placeholders(template["job_configuration"])}
    assert asked == set(template["variables"]["properties"])
    defaults = {name: field["default"] for name, field in template["variables"]["properties"].items() if "default" in field}
    run = {"name": "run", "command": "prefect flow-run execute", "env": {"A": "1"}, "job_watch_timeout_seconds": 60}
    job = apply_values(template["job_configuration"], {**defaults, **run})["job_manifest"]
    worker = objects.pod("Deployment", "affinage-worker")["containers"][0]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == worker["image"]
    assert container["env"] == worker["env"]
    assert container["resources"] == worker["resources"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    assert job["metadata"]["namespace"] == "tenant"


def test_the_dashboard_finds_its_sidecar_by_a_label(render: Render) -> None:
    labels = render({"monitoring.dashboard": {"enabled": True, "labels": {"folder": "llm"}}}).one("ConfigMap", "affinage-dashboard")[
        "metadata"
    ]["labels"]
    assert labels["folder"] == "llm"


def test_another_release_has_other_names_and_selectors(render: Render) -> None:
    first, second = render(), render(release="second")
    assert not first.names() & second.names()
    chosen = second.one("Deployment", "second-gateway")["spec"]["selector"]["matchLabels"]
    assert chosen["app.kubernetes.io/instance"] == "second"
    assert (
        environment(second.pod("Deployment", "second-gateway")["containers"][0])["AFFINAGE_EMBEDDER_URL"] == "http://second-embedder:3000"
    )


@pytest.mark.parametrize(("ready", "models", "code"), [(200, 401, 0), (503, 401, 1), (200, 200, 1), (200, 500, 1)])
def test_helm_test_asks_whether_the_gateway_is_ready_and_closed(render: Render, ready: int, models: int, code: int) -> None:
    (pod,) = render().all("Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    *_, script, address = pod["spec"]["containers"][0]["command"]
    assert address == "http://affinage-gateway:8400"
    statuses = {"/health/ready": ready, "/v1/models": models}

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            self.send_response(statuses[self.path])
            self.end_headers()

        def log_message(self, *words: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-c", script, f"http://127.0.0.1:{server.server_port}"]
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == code
        server.shutdown()
