"""Resource types that a cluster with the Prometheus operator has, as data for the tests: no operator runs here."""

from __future__ import annotations

from pathlib import Path

import yaml
from kubernetes import client

from tests.support.programs import wait_for

FOLDER = Path(__file__).parent
APPLY = {"field_manager": "tests", "force": True, "_content_type": "application/apply-patch+yaml"}
# Arguments that turn a patch of the Python client into a server-side apply.
SERVED_SECONDS = 30


def install(api: client.ApiClient) -> list[str]:
    """Apply every resource type of this folder and wait until the API serves it; returns their names."""
    extensions = client.ApiextensionsV1Api(api)
    definitions = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.yaml"))]
    names = [str(definition["metadata"]["name"]) for definition in definitions]
    for name, definition in zip(names, definitions, strict=True):
        extensions.patch_custom_resource_definition(name, definition, **APPLY)
    for name in names:
        wait_for(lambda name=name: _served(extensions, name), what=f"{name} is not served", seconds=SERVED_SECONDS)
    return names


def _served(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    status = extensions.read_custom_resource_definition(name).status
    return any(condition.type == "Established" and condition.status == "True" for condition in status.conditions or [])
