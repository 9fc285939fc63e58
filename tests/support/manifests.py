"""Kubernetes objects as read from YAML, and the questions that tests put to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """Objects of one release."""

    objects: list[Object]

    def all(self, kind: str) -> list[Object]:
        """Every object of the kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """The object of that kind and name."""
        (found,) = [one for one in self.all(kind) if one["metadata"]["name"] == name]
        return found

    def names(self) -> set[tuple[str, str]]:
        """Kind and name of each."""
        return {(one["kind"], one["metadata"]["name"]) for one in self.objects}

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Name and template (`metadata`, `spec`) of every pod that the objects make, those of the flows' job template too."""
        for one in self.objects:
            name = f"{one['kind']} {one['metadata']['name']}"
            if one["kind"] == "Pod":
                yield name, one
            elif one["kind"] in {"Deployment", "Job"}:
                yield name, one["spec"]["template"]
            for text in (one.get("data") or {}).values() if one["kind"] == "ConfigMap" else ():
                if "job_configuration" in text:
                    yield f"{name}, job template", json.loads(text)["job_configuration"]["job_manifest"]["spec"]["template"]

    def pod(self, kind: str, name: str) -> Object:
        """Specification of the pods of one object."""
        (found,) = [pod["spec"] for where, pod in self.pods() if where == f"{kind} {name}"]
        return dict(found)


def containers(spec: Mapping[str, Any]) -> list[Object]:
    """All containers of a pod, the first ones first."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    """Name to value, or to what the value comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        present, value = term["key"] in labels, labels.get(term["key"])
        holds = {
            "In": present and value in term.get("values", []),
            "NotIn": not present or value not in term.get("values", []),
            "Exists": present,
            "DoesNotExist": not present,
        }
        if not holds[term["operator"]]:
            return False
    return True
