"""What the pods of manifests need that nobody makes for them: Secrets.

A pod whose Secret is missing is admitted, scheduled, and never starts; so it is looked at before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from affinage.rollout.changes import Manifest

PULL_KEY = ".dockerconfigjson"
# The kubelet reads an image pull Secret by this key.


@dataclass(frozen=True)
class MissingSecret:
    """A Secret that a pod names. `keys` are those it lacks; all of them when it is not there (`exists` is false)."""

    name: str
    keys: tuple[str, ...]
    exists: bool

    def __str__(self) -> str:
        """One sentence, with the keys and never a value."""
        keys = " and ".join(f"`{key}`" for key in self.keys)
        plural = "s" if len(self.keys) > 1 else ""
        if self.exists:
            return f"Secret `{self.name}` lacks the key{plural} {keys}."
        return f"There is no Secret `{self.name}`" + (f"; the pods read its key{plural} {keys}." if keys else ".")

    def as_dict(self) -> dict[str, Any]:
        """As `affinage rollout plan --json` prints it."""
        return {"name": self.name, "keys": list(self.keys), "exists": self.exists}


def wanted_secrets(objects: Iterable[Manifest]) -> dict[str, frozenset[str]]:
    """Name of each Secret without which a pod would not start or find its image, and the keys it must have."""
    found: dict[str, set[str]] = {}
    for one in objects:
        for name, keys in _of_pod(_pod_spec(one)):
            found.setdefault(name, set()).update(keys)
    return {name: frozenset(keys) for name, keys in sorted(found.items())}


def missing_secrets(wanted: Mapping[str, frozenset[str]], present: Mapping[str, frozenset[str] | None]) -> list[MissingSecret]:
    """What is wanted and not there.

    Parameters
    ----------
    present
        The keys of each wanted Secret that was looked up; None for one that does not exist. Others are taken to be there.
    """
    found = []
    for name, keys in wanted.items():
        if name not in present:
            continue
        has = present[name]
        lacking = keys - (has or frozenset())
        if has is None or lacking:
            found.append(MissingSecret(name, tuple(sorted(lacking)), exists=has is not None))
    return found


def _pod_spec(one: Manifest) -> Mapping[str, Any]:
    spec = one.get("spec") or {}
    return spec if one["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}


def _of_pod(spec: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                yield reference["name"], {reference["key"]}
        for source in container.get("envFrom") or []:
            reference = source.get("secretRef")
            if reference and not reference.get("optional"):
                yield reference["name"], set()
    for volume in spec.get("volumes") or []:
        reference = volume.get("secret")
        if reference and not reference.get("optional"):
            yield reference["secretName"], {item["key"] for item in reference.get("items") or []}
    for reference in spec.get("imagePullSecrets") or []:
        yield reference["name"], {PULL_KEY}
