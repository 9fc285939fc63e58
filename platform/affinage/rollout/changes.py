"""What differs between the objects of a release and those that are wanted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

Manifest = Mapping[str, Any]
HOOK = "helm.sh/hook"


@dataclass(frozen=True)
class Change:
    """One object that would be made, changed or removed; `diff` are the lines of a unified diff of its YAML."""

    action: Literal["create", "change", "remove"]
    kind: str
    name: str
    diff: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As `affinage rollout plan --json` prints it."""
        return {"action": self.action, "kind": self.kind, "name": self.name, "diff": list(self.diff)}


def objects_of(texts: Iterable[str]) -> list[Manifest]:
    """The objects of YAML documents; empty ones are left out."""
    return [found for text in texts for found in yaml.load_all(text, yaml.CSafeLoader) if found]


def without_hooks(objects: Iterable[Manifest]) -> list[Manifest]:
    """The objects that stay: Helm makes hooks anew at each step and they belong to no revision."""
    return [one for one in objects if HOOK not in (one["metadata"].get("annotations") or {})]


def without_tests(objects: Iterable[Manifest]) -> list[Manifest]:
    """The objects that an upgrade makes: the pods of `helm test` come later, and need what the upgrade makes."""
    return [one for one in objects if (one["metadata"].get("annotations") or {}).get(HOOK) != "test"]


def changes(before: Iterable[Manifest], after: Iterable[Manifest]) -> list[Change]:
    """What leads from one set of objects to the other, by kind and name."""
    old, new = ({_key(one): one for one in objects} for objects in (before, after))
    found = []
    for key in sorted(old.keys() | new.keys()):
        was, becomes = old.get(key), new.get(key)
        if was == becomes:
            continue
        action: Literal["create", "change", "remove"] = "create" if was is None else "remove" if becomes is None else "change"
        lines = difflib.unified_diff(_lines(was), _lines(becomes), lineterm="", n=3)
        found.append(Change(action, key[0], key[1], tuple(lines)[2:]))  # without the two lines that name files
    return found


def _key(one: Manifest) -> tuple[str, str]:
    return str(one["kind"]), str(one["metadata"]["name"])


def _lines(one: Manifest | None) -> list[str]:
    return [] if one is None else yaml.safe_dump(one, sort_keys=True, allow_unicode=True).splitlines()
