"""Whether a pod meets the *restricted* Pod Security Standard, and our own stricter floor.

Written from the standard's table (Kubernetes documentation, "Pod Security Standards", version 1.34), which the API server also
enforces in `tests/cluster`; this one needs no server and also sees pods that are made later from a template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.manifests import containers

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
USERS_FROM = 1000


def breaches(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the pod, in words; empty when nothing is."""
    return [*_pod(spec), *(f"{c['name']}: {wrong}" for c in containers(spec) for wrong in _container(c, spec))]


def _pod(spec: Mapping[str, Any]) -> Iterator[str]:
    security = spec.get("securityContext", {})
    user = security.get("runAsUser")
    wrong = {
        "runAsNonRoot is not true": security.get("runAsNonRoot") is not True,
        # An image whose user is a name would not start.
        "runAsUser is not a number from 1000": not (isinstance(user, int) and user >= USERS_FROM),
        "seccompProfile is not RuntimeDefault": security.get("seccompProfile") != {"type": "RuntimeDefault"},
        "it has ephemeral containers": "ephemeralContainers" in spec,
        # Ours:
        "it gets a token of the cluster's API": spec.get("automountServiceAccountToken") is not False,
        "other Services would write into its environment": spec.get("enableServiceLinks") is not False,
        "it has no service account of its own": not spec.get("serviceAccountName"),
    }
    yield from (what for what, holds in wrong.items() if holds)
    # The standard allows some values of some of these; we need none.
    yield from (f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers") if field in spec)
    yield from (f"{field} is set" for field in ("sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile") if security.get(field))
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if len(kinds) != 1 or not kinds <= VOLUMES:
            yield f"volume {volume['name']} is {sorted(kinds)}"


def _container(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "capabilities are not exactly: drop ALL"
    for field in (
        "privileged",
        "procMount",
        "seLinuxOptions",
        "windowsOptions",
        "appArmorProfile",
        "runAsUser",
        "runAsNonRoot",
        "seccompProfile",
    ):
        if field in security:
            yield f"{field} is set beside the pod's"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "it takes a port of the node"
    # Ours:
    if security.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written to"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        if "emptyDir" not in volumes[mount["name"]] and mount.get("readOnly") is not True:
            yield f"{mount['mountPath']} can be written to and outlives the pod"
    if not {"requests", "limits"} <= set(container.get("resources", {})) or "memory" not in container["resources"]["limits"]:
        yield "it has no limit of memory"
    image = container["image"]
    if image != "{{ image }}" and (image.endswith(":latest") or not (":" in image.split("/")[-1] or "@" in image)):
        yield f"its image {image} has no version"
