"""Pairs of values that cannot both be meant: the chart stops, and says which to remove."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from tests.charts.conftest import Render

CLAIM = {"weights": {"existingClaim": "weights"}}
VLLM = {"runtime": "vllm", "image": {"repository": "affinage/generator-vllm"}}
IMPOSSIBLE = [
    (
        {"blobs.existingSecret": "s3", "serviceAccount.annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/a"}},
        "remove blobs.existingSecret to use the identity of the cloud, or the annotation to use the Secret",
    ),
    (
        {"gateway.autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 3}},
        "gateway.autoscaling.minReplicas is 5 and maxReplicas is 3: lower minReplicas or raise maxReplicas",
    ),
    (
        {"gateway.autoscaling": {"enabled": True}, "gateway.resources": {"requests": {"cpu": None}}},
        "gateway.resources.requests.cpu, which is not set: set it, or remove gateway.autoscaling.enabled",
    ),
    (
        {"generators": {"second": {"engine": "package:smollm2"}}},
        "generators.second and generators.smollm2 both serve the engine package:smollm2",
    ),
    ({"generators": {"big": {"engine": "/weights/big"}}}, "set generators.big.weights.existingClaim, or remove the engine"),
    ({"generators": {"big": {"engine": "mistral-small"}}}, "no volume holds its weights: set generators.big.weights.existingClaim"),
    (
        {"generators": {"big": {"engine": "/weights/a", "weights": {"existingClaim": "w", "folder": "b"}}}},
        "generators.big.weights.folder both name a folder: remove the second",
    ),
    ({"generators": {"big": {"engine": "/models/big", **CLAIM}}}, "a pod has weights below /weights only"),
    ({"generators": {"smollm2": CLAIM}}, "remove the claim, or the engine"),
    ({"generators": {"smollm2": {"runtime": "vllm"}}}, "set generators.smollm2.image, such as {repository: affinage/generator-vllm}"),
    ({"generators": {"smollm2": {**VLLM, "gpus": 2}}}, "generators.smollm2.gpus is 2, but vllm is started on one"),
    ({"networkPolicy.monitoring": [], "monitoring.serviceMonitor.enabled": True}, "networkPolicy.monitoring lets nobody: remove the first"),
    ({"worker.resources": {"limits": {"nvidia.com/gpu": 1}}}, "worker.resources names nvidia.com/gpu: remove it, and set worker.gpus"),
    (
        {"generators": {"big": {"engine": "big", "resources": {"requests": {"nvidia.com/gpu": 1}}}}},
        "remove it, and set generators.big.gpus",
    ),
    ({"gateway.resources": {"limits": {"nvidia.com/gpu": 1}}}, "gateway.resources names nvidia.com/gpu: remove it; this component"),
    ({"prefect.apiUrl": ""}, "set worker.enabled and worker.jobTemplate.enabled to false"),
]


@pytest.mark.parametrize(("values", "told"), IMPOSSIBLE)
def test_an_impossible_pair_is_refused_with_what_to_remove(render: Render, values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render(values)
    assert told in str(refused.value)


def test_names_that_would_be_too_long_are_refused(render: Render) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="would have 64 characters, and 63 are allowed: choose a shorter release name"):
        render(release="a" * 53)
    with pytest.raises(helm_python.HelmRenderError, match="shorter release name or pool name"):
        render({"generators": {"a" * 20: {"engine": "x", **CLAIM}}}, release="a" * 40)
    assert render(release="a" * 40)


def test_several_problems_are_told_at_once(render: Render) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render({"registry.url": "", "generators": {"big": {"engine": "/weights/big"}}})
    assert "registry.url" in str(refused.value)
    assert "generators.big" in str(refused.value)


def test_without_a_worker_no_scheduler_is_asked_for(render: Render) -> None:
    objects = render({"prefect.apiUrl": "", "worker.enabled": False})
    assert ("Deployment", "affinage-worker") not in objects.names()
    assert ("NetworkPolicy", "affinage-worker") not in objects.names()
