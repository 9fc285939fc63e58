"""Every pod that the chart makes: its security, its environment, its start and its end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.main import get_command

from affinage.cli.main import app
from affinage.errors import ConfigurationError
from affinage.serving.server import GRACE_SECONDS
from affinage.settings import CONNECTION, PREFIX, Settings, load_settings
from tests.charts.conftest import Render
from tests.charts.rendering import values_file
from tests.support.manifests import containers, environment
from tests.support.restricted import breaches

EVERYTHING = values_file("everything")
BOTH = pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["smallest", "everything"])
KNOWN = set(Settings.model_fields)
QUIET = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "BENTOML_DO_NOT_TRACK": "True", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
MODELS = re.compile(r"affinage-(embedder|generator-\w+)$")


@BOTH
def test_every_pod_is_restricted(render: Render, values: dict[str, Any]) -> None:
    pods = list(render(values).pods())
    assert {where: breaches(pod["spec"]) for where, pod in pods if breaches(pod["spec"])} == {}
    assert len(pods) == (11 if values else 8)


def test_the_checker_of_restricted_pods_tells_a_bad_one(render: Render) -> None:
    """The check that the check works: each damage to a good pod is seen."""
    damages: list[Any] = [
        lambda pod: pod.pop("securityContext"),
        lambda pod: pod["securityContext"].update(runAsUser=0),
        lambda pod: pod["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        lambda pod: pod.update(hostNetwork=True),
        lambda pod: pod.update(automountServiceAccountToken=True),
        lambda pod: pod["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        lambda pod: pod["containers"][0]["securityContext"].update(privileged=True),
        lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
        lambda pod: pod["containers"][0]["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        lambda pod: pod["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
        lambda pod: pod["containers"][0]["ports"][0].update(hostPort=80),
        lambda pod: pod["containers"][0].update(image="affinage/gateway:latest"),
        lambda pod: pod["containers"][0].update(image="registry.example.org:5000/affinage/gateway"),
        lambda pod: pod.update(initContainers=[{"name": "i", "image": "a:1"}]),
    ]
    for damage in damages:
        pod = render().pod("Deployment", "affinage-gateway")
        assert breaches(pod) == []
        damage(pod)
        assert len(breaches(pod)) >= 1


@BOTH
def test_settings_know_every_variable_of_ours(render: Render, values: dict[str, Any]) -> None:
    for where, pod in render(values).pods():
        for container in containers(pod["spec"]):
            ours = {name.removeprefix(PREFIX).lower() for name in environment(container) if name.startswith(PREFIX)}
            # The settings refuse a variable that they do not know: the process would not start.
            assert {name for name in ours if not name.startswith(CONNECTION)} <= KNOWN, where


@BOTH
def test_the_settings_of_every_process_can_be_read(render: Render, values: dict[str, Any]) -> None:
    for where, pod in render(values).pods():
        for container in containers(pod["spec"]):
            given = {name: value if isinstance(value, str) else "1" for name, value in environment(container).items()}
            settings = load_settings(given)
            assert str(settings.home) == given.get("AFFINAGE_HOME", str(Settings().home.absolute())), where


def test_service_links_would_stop_every_process() -> None:
    """Why pods turn them off: Kubernetes would write these for the Services of a release named `affinage`."""
    for name, value in (("AFFINAGE_GATEWAY_SERVICE_HOST", "10.96.0.7"), ("AFFINAGE_GATEWAY_PORT", "tcp://10.96.0.7:8400")):
        with pytest.raises(ConfigurationError):
            load_settings({name: value})


@BOTH
def test_every_command_of_ours_exists_with_its_options(render: Render, values: dict[str, Any]) -> None:
    found = set()
    for _, pod in render(values).pods():
        for container in containers(pod["spec"]):
            program, *words = container.get("command", [""])
            if program != "affinage":
                continue
            command: Any = get_command(app)
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            options = {option for parameter in command.params for option in parameter.opts}
            assert not hasattr(command, "commands"), words
            assert {word for word in words if word.startswith("-")} <= options, words
            found.add(command.name)
    assert found == {"gateway", "controller", "migrate", *(["apply"] if values else [])}


@BOTH
def test_every_process_keeps_its_state_in_a_folder_of_the_pod_and_calls_nobody(render: Render, values: dict[str, Any]) -> None:
    for where, pod in render(values).pods():
        for container in containers(pod["spec"]):
            if where.startswith("Pod "):
                continue
            found = environment(container)
            assert found["AFFINAGE_HOME"] == "/var/lib/affinage"
            assert found["AFFINAGE_LOG_FORMAT"] == "json"
            assert found.items() >= QUIET.items(), where
            folders = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {"/var/lib/affinage", "/tmp"} <= folders
            for name in ("AFFINAGE_CACHE", "HOME", "PREFECT_HOME", "BENTOML_HOME"):
                assert any(found.get(name, "/tmp").startswith(folder) for folder in ("/var/lib/affinage", "/tmp")), name


SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|AUTH|ACCESS_KEY|USERNAME|DATABASE_URL|AFFINAGE_CONNECTION_")


@BOTH
def test_secrets_are_named_and_never_written(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    assert objects.all("Secret") == []
    for where, pod in objects.pods():
        for container in containers(pod["spec"]):
            assert "envFrom" not in container, where
            for name, value in environment(container).items():
                if SECRET.search(name):
                    assert set(value["secretKeyRef"]) == {"name", "key"}, f"{where}: {name}"
                else:
                    assert isinstance(value, str) or set(value) == {"resourceFieldRef"}, f"{where}: {name}"
        assert not any("secret" in volume for volume in pod["spec"].get("volumes", []))


def test_each_secret_goes_only_to_those_that_need_it(render: Render) -> None:
    objects = render(EVERYTHING)
    readers: dict[str, set[str]] = {}
    for where, pod in objects.pods():
        for container in containers(pod["spec"]):
            for value in environment(container).values():
                if isinstance(value, dict) and "secretKeyRef" in value:
                    readers.setdefault(value["secretKeyRef"]["name"], set()).add(where.replace("affinage-", ""))
    flows = {"Deployment worker", "ConfigMap job-template, job template"}
    serving = {"Deployment gateway", "Deployment controller", *flows}
    assert readers == {
        "affinage-database": serving | {"Job migration", "Job schedules"},
        "affinage-vectors": serving,
        "affinage-blobs": serving,
        "affinage-registry": serving - {"Deployment gateway"},
        "affinage-prefect": flows | {"Job schedules"},
        "procedures": flows,
    }


@BOTH
def test_model_servers_hold_no_credential_and_no_identity(render: Render, values: dict[str, Any]) -> None:
    objects = render({**values, "serviceAccount": {"annotations": {"example.org/role": "affinage"}}})
    for where, pod in objects.pods():
        model = MODELS.search(where) is not None
        # Nor does `helm test` or what only talks to Prefect need one.
        other = where in {"Pod affinage-test", "Job affinage-schedules"}
        assert (pod["spec"]["serviceAccountName"] == "affinage-models") == (model or other), where
    assert "annotations" not in objects.one("ServiceAccount", "affinage-models")["metadata"]
    assert objects.one("ServiceAccount", "affinage-platform")["metadata"]["annotations"] == {"example.org/role": "affinage"}


@BOTH
def test_service_accounts_exist_before_their_pods(render: Render, values: dict[str, Any]) -> None:
    """A hook runs before the objects of the release: what its pod names must be a hook of lower weight."""
    objects = render(values)
    for where, pod in objects.pods():
        account = objects.one("ServiceAccount", pod["spec"]["serviceAccountName"])
        hook = account["metadata"].get("annotations", {}).get("helm.sh/hook", "")
        assert (hook == "pre-install,pre-upgrade") == (where == "Job affinage-migration"), where


@BOTH
def test_a_deployment_replaces_a_pod_only_when_the_next_one_is_ready(render: Render, values: dict[str, Any]) -> None:
    objects = render(values)
    for one in objects.all("Deployment"):
        spec = one["spec"]
        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        (container,) = spec["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        (budget,) = [b for b in objects.all("PodDisruptionBudget") if b["spec"]["selector"] == spec["selector"]]
        assert budget["spec"]["maxUnavailable"] == 1


@BOTH
def test_what_a_process_said_last_is_the_message_of_its_end(render: Render, values: dict[str, Any]) -> None:
    """So `affinage rollout` shows it: by then the pod and its log may be gone."""
    for where, pod in render(values).pods():
        assert {one["terminationMessagePolicy"] for one in containers(pod["spec"])} == {"FallbackToLogsOnError"}, where


def test_the_gateway_ends_after_its_drain(render: Render) -> None:
    for sleep in (0, 5, 30):
        pod = render({"gateway.preStopSleepSeconds": sleep}).pod("Deployment", "affinage-gateway")
        assert pod["terminationGracePeriodSeconds"] > sleep + GRACE_SECONDS
        lifecycle = pod["containers"][0].get("lifecycle")
        assert lifecycle == ({"preStop": {"sleep": {"seconds": sleep}}} if sleep else None)


@BOTH
def test_labels_are_the_recommended_ones_and_selectors_never_change(render: Render, values: dict[str, Any]) -> None:
    kept = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")}
    told = kept | {f"app.kubernetes.io/{name}" for name in ("version", "managed-by", "part-of")} | {"helm.sh/chart"}
    objects = render(values)
    for one in objects.objects:
        assert told <= set(one["metadata"]["labels"]), one["metadata"]["name"]
        assert one["metadata"]["namespace"] == "tenant"
        assert one["metadata"]["name"].startswith("affinage-")
    for one in objects.all("Deployment"):
        assert set(one["spec"]["selector"]["matchLabels"]) == kept
        assert one["spec"]["template"]["metadata"]["labels"].items() >= one["spec"]["selector"]["matchLabels"].items()
