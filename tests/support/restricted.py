"""Whether a pod meets the *restricted* Pod Security Standard, and our own stricter floor.

Written from the standard's table (Kubernetes documentation, "Pod Security Standards", version 1.34), which the API server also
enforces in `tests/cluster`; this one needs no server and also sees pods that are made later from a template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.manifests import containers

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS: set[str] = set()
# The standard allows some; we need none.
USERS_FROM = 1000


def breaches(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the pod, in words; empty when nothing is."""
    return [*_pod(spec), *(f"{c['name']}: {wrong}" for c in containers(spec) for wrong in _container(c, spec))]


def _pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        if field in spec and not (field == "hostUsers" and spec[field] is False):
            yield f"{field} is set"
    if "ephemeralContainers" in spec:
        yield "it has ephemeral containers"
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if not (isinstance(security.get("runAsUser"), int) and security["runAsUser"] >= USERS_FROM):
        yield "runAsUser is not a number from 1000: an image whose user is a name would not start"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccompProfile is not RuntimeDefault"
    for field in ("sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"):
        if security.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if len(kinds) != 1 or not kinds <= VOLUMES:
            yield f"volume {volume['name']} is {sorted(kinds)}"
    # Ours:
    if spec.get("automountServiceAccountToken") is not False:
        yield "it gets a token of the cluster's API"
    if spec.get("enableServiceLinks") is not False:
        yield "other Services would write into its environment"
    if not spec.get("serviceAccountName"):
        yield "it has no service account of its own"


def _container(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "capabilities are not exactly: drop ALL"
    for field in ("privileged", "procMount", "seLinuxOptions", "windowsOptions", "appArmorProfile", "runAsUser", "runAsNonRoot", "seccompProfile"):
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
