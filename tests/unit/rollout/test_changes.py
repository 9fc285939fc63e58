"""What differs between two sets of objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from affinage.errors import ConfigurationError
from affinage.rollout.changes import changes, objects_of, without_hooks
from affinage.rollout.operate import read_values

BEFORE = """
kind: Service
metadata: {name: gateway}
spec: {port: 80}
---
kind: Deployment
metadata: {name: gateway}
spec:
  replicas: 2
  image: "1"
---
"""
AFTER = BEFORE.replace('"1"', '"2"').replace("kind: Service", "kind: ConfigMap")


def test_equal_objects_differ_in_nothing_whatever_their_order() -> None:
    objects = objects_of([BEFORE])
    assert changes(objects, list(reversed(objects))) == []


def test_each_object_is_made_changed_or_removed_and_shows_its_lines() -> None:
    found = {(one.action, one.kind): one.diff for one in changes(objects_of([BEFORE]), objects_of([AFTER]))}
    assert set(found) == {("create", "ConfigMap"), ("remove", "Service"), ("change", "Deployment")}
    assert [line for line in found["change", "Deployment"] if line[0] in "+-"] == ["-  image: '1'", "+  image: '2'"]
    assert all(line[0] == "+" for line in found["create", "ConfigMap"][1:])


def test_hooks_belong_to_no_revision() -> None:
    hook = "kind: Job\nmetadata: {name: migration, annotations: {helm.sh/hook: pre-upgrade}}"
    assert without_hooks(objects_of([hook, "", BEFORE])) == objects_of([BEFORE])


def test_a_later_file_of_values_wins_and_maps_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("gateway: {replicas: 2, port: 1}\nlist: [1]")
    (tmp_path / "b.yaml").write_text("gateway: {replicas: 3}\nlist: [2]")
    assert read_values([tmp_path / "a.yaml", tmp_path / "b.yaml"]) == {"gateway": {"replicas": 3, "port": 1}, "list": [2]}


@pytest.mark.parametrize("text", ["[1]", "a: [", "\x00"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"values\.yaml"):
        read_values([file])
    with pytest.raises(ConfigurationError, match="absent"):
        read_values([tmp_path / "absent"])
