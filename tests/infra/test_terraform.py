"""Modules and environments: valid, tested, safe, and what the chart takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml

from tests.infra import check
from tests.infra.check import problems
from tests.infra.terraform import ROOT, Terraform

CHART = ROOT / "helm" / "affinage"
FOLDER = ROOT / "terraform"
ROOTS = sorted(str(versions.parent.relative_to(FOLDER)) for versions in FOLDER.glob("*/*/versions.tf"))
WITHOUT_PROVIDER = [root for root in ROOTS if "required_providers" not in (FOLDER / root / "versions.tf").read_text(encoding="utf-8")]
WITH_AWS = [root for root in ROOTS if root not in WITHOUT_PROVIDER]
AWS = "environments/aws"
CHART_KEYS = {
    "images", "packages", "imagePullSecrets", "database", "registry", "vectors", "blobs", "prefect", "serviceAccount", "gateway",
    "controller", "embedder", "generators", "worker", "migration", "declarations", "networkPolicy", "monitoring",
}  # fmt: skip


def example(root: str) -> str:
    """The first block of HCL in a README, which is the smallest example."""
    found = re.search(r"^```hcl\n(.*?)^```", (FOLDER / root / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"the README of {root} opens with an example"
    return found.group(1)


@pytest.fixture(scope="session")
def existing_cluster(terraform: Terraform) -> dict[str, Any]:
    """The outputs of the README's example of `existing-cluster`, applied."""
    root = "environments/existing-cluster"
    terraform.initialise(root)
    (terraform.folder / root / "terraform.tfvars").write_text(example(root), encoding="utf-8")
    try:
        terraform.run(root, "apply", "-auto-approve", "-no-color")
    finally:
        (terraform.folder / root / "terraform.tfvars").unlink()  # the other tests bring their own
    return terraform.outputs(root)


def test_every_root_is_known() -> None:
    assert {"modules/chart_values", "environments/existing-cluster"} == set(WITHOUT_PROVIDER)
    assert {"modules/network", "modules/cluster", "modules/gpu_nodes", "modules/artifact_bucket", "modules/database"} <= set(WITH_AWS)


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_has_the_files_that_every_root_has(root: str) -> None:
    for name in ("main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"):
        assert (FOLDER / root / name).is_file(), name
    assert list((FOLDER / root / "tests").glob("*.tftest.hcl"))


@pytest.mark.parametrize("root", ROOTS)
def test_variables_are_described_typed_and_in_order(root: str) -> None:
    blocks = re.findall(
        r'^variable "(\w+)" \{\n(.*?)^\}', (FOLDER / root / "variables.tf").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in blocks] == sorted(name for name, _ in blocks)
    for name, body in blocks:
        assert re.search(r"^  description = \"\w", body, re.MULTILINE), name
        assert re.search(r"^  type +=", body, re.MULTILINE), name
        assert "nullable    = false" in body or "nullable = false" in body or re.search(r"^  default +\S*= null$", body, re.MULTILINE), name


def test_providers_and_state_are_declared_in_environments_only() -> None:
    for module in (FOLDER / "modules").rglob("*.tf"):
        assert not re.search(r'^\s*(provider|backend) "', module.read_text(encoding="utf-8"), re.MULTILINE), module


def test_no_variable_and_no_output_holds_a_secret() -> None:
    """Secrets go by name; so nothing needs to be marked sensitive, and nothing is hidden in a state."""
    for file in FOLDER.glob("*/*/*.tf"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s*sensitive\s*=", text, re.MULTILINE), file
        for name in re.findall(r'^(?:variable|output) "(\w+)"', text, re.MULTILINE):
            assert not re.search(r"password|token|credential|api_key|private_key", name), f"{file}: {name}"
    # A lock file names where its maker's providers came from.
    assert ".terraform.lock.hcl" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_configuration_and_examples_are_formatted(terraform: Terraform) -> None:
    for root in ROOTS:
        (terraform.folder / root / "example.tfvars").write_text(example(root), encoding="utf-8")
    ended = terraform.run(".", "fmt", "-check", "-recursive", "-diff", check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_check_of_every_commit_tells_what_is_wrong(terraform: Terraform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make check`, where the provider of AWS is not: what needs none is checked all the same."""
    monkeypatch.setattr(check, "mirror", lambda: None)
    damaged = Terraform.copied_to(tmp_path)
    assert problems(damaged) == []
    root = damaged.folder / "environments" / "existing-cluster"
    (root / "more.tf").write_text('output "more" {\nvalue = var.nowhere\n}\n')
    ugly, invalid = problems(damaged)
    assert "environments/existing-cluster/more.tf" in ugly
    assert 'An input variable with the name "nowhere" has not been declared' in invalid


def test_without_terraform_the_check_says_that_it_did_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "binary", lambda: None)
    assert check.main() == 0
    assert "not checked" in capsys.readouterr().out


@pytest.mark.parametrize("root", WITHOUT_PROVIDER)
def test_root_without_provider_keeps_its_promises(terraform: Terraform, root: str) -> None:
    terraform.initialise(root)
    terraform.run(root, "validate", "-no-color")
    terraform.run(root, "test", "-no-color")


def test_the_smallest_example_gives_the_charts_values(existing_cluster: dict[str, Any]) -> None:
    assert set(existing_cluster["values"]) == CHART_KEYS
    assert yaml.safe_load(existing_cluster["values_yaml"]) == existing_cluster["values"]
    assert existing_cluster["values"]["blobs"]["existingSecret"] == "affinage-s3"
    assert existing_cluster["secrets"] == {"affinage-database": ["url"], "affinage-s3": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}


def test_the_chart_takes_the_smallest_example(existing_cluster: dict[str, Any]) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(existing_cluster["values"])
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(defaults) - {"global"} == CHART_KEYS
    assert existing_cluster["secrets"]["affinage-database"] == [defaults["database"]["key"]]


def test_the_chart_renders_everything_that_terraform_can_say(terraform: Terraform) -> None:
    root = "environments/existing-cluster"
    terraform.initialise(root)
    everything = {
        "blobs": {"bucket": "affinage", "folder": "prod"},
        "declarations_file": "tests/declarations.yaml",
        "documents_claim": "documents",
        "packages_claim": "packages",
        "weights_claim": "weights",
        "endpoints": {
            "blobs": "https://s3.example.org",
            "registry": "http://mlflow.mlflow.svc:5000",
            "vectors": "http://weaviate.weaviate.svc",
            "prefect": "https://prefect.example.org/api",
            "allow_http": ["registry", "vectors"],
        },
        "gateway_autoscaling": {"max": 6},
        "gateway_egress_hosts": ["models.example.org"],
        "generators": {
            "small": {"engine": "package:smollm2", "replicas": 2},
            "large": {
                "engine": "base:large", "gpus": 2, "node_selector": {"affinage.io/pool": "large"}, "weights_claim": "weights",
                "repository": "registry.example.org/other", "digest": "sha256:" + "0" * 64, "startup_seconds": 900,
                "resources": {"limits": {"memory": "64Gi", "cpu": "8"}},
            },
        },
        "images": {"registry": "registry.example.org/affinage", "tag": "0.1.0", "pull_secrets": ["registry"], "pull_policy": "Always"},
        "monitoring": {"service_monitor": True, "rules": True, "dashboard": True, "labels": {"release": "prometheus"}},
        "network_policy": {
            "client_cidrs": ["10.0.0.0/8"], "client_namespaces": ["ingress"], "monitoring_namespaces": ["monitoring"],
            "servers": {"vectors": {"ports": [8080, 50051]}, "database": {"cidrs": ["10.1.0.0/24"]}},
        },
        "replicas": {"controller": 2, "embedder": 3, "gateway": 2, "worker": 2},
        "secret_keys": {"database": "dsn", "vectors": "key"},
        "secrets": {"database": "affinage", "blobs": "s3", "prefect": "prefect", "registry": "mlflow", "vectors": "weaviate"},
        "service_account_annotations": {"example.org/role": "affinage"},
        "vectors_grpc_port": 50051,
    }  # fmt: skip
    given = terraform.folder / "everything.tfvars.json"
    given.write_text(json.dumps(everything), encoding="utf-8")
    state = terraform.folder / "everything.tfstate"
    terraform.run(root, "apply", "-auto-approve", "-no-color", f"-var-file={given}", f"-state={state}")
    outputs = terraform.outputs(root, f"-state={state}")
    values = outputs["values"]
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        manifests = "\n---\n".join(
            text for name, text in chart.render(values, name="affinage", namespace="affinage").items() if name.endswith(".yaml")
        )
        pools = chart.merge_values(values)["generators"]
    accounts = [
        one for one in yaml.safe_load_all(manifests) if one and one["kind"] == "ServiceAccount" and one["metadata"].get("annotations")
    ]
    assert outputs["service_account"] in {
        one["metadata"]["name"] for one in accounts if "example.org/role" in one["metadata"]["annotations"]
    }
    assert "registry.example.org/other@sha256:" + "0" * 64 in manifests
    assert "claimName: weights" in manifests
    assert {name for name, pool in pools.items() if pool} == {"small", "large"}


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "endpoints",
            {"registry": "https://me:hunter2@mlflow.example.org"},
            "No user or password inside an address: correct endpoints.registry",
        ),
        (
            "endpoints",
            {"registry": "https://mlflow.example.org?token=hunter2"},
            'Write addresses as "https://HOST:PORT/PATH", without query',
        ),
        ("endpoints", {"vectors": "http://weaviate.weaviate.svc"}, 'Begin with "https://": endpoints.vectors'),
        ("endpoints", {"prefect": "ftp://hunter2.example.org"}, 'Begin with "https://": endpoints.prefect'),
        (
            "secrets",
            {"database": "postgresql://me:hunter2@db/affinage"},
            "Give the name of a Secret, never what is in it: secrets.database",
        ),
        ("images", {"registry": "registry.example.org/affinage", "tag": "latest"}, "Write images.tag as a release"),
        ("blobs", {"bucket": "s3://me:hunter2@affinage"}, 'Write blobs as { bucket = "affinage", folder = "prod" }'),
    ],
)
def test_a_refusal_says_what_to_write_and_repeats_no_secret(terraform: Terraform, variable: str, value: dict[str, Any], says: str) -> None:
    root = "environments/existing-cluster"
    terraform.initialise(root)
    good: dict[str, Any] = {
        "blobs": {"bucket": "affinage", "folder": "prod"},
        "endpoints": {"registry": "https://m.example.org", "vectors": "https://v.example.org", "prefect": "https://p.example.org/api"},
        "images": {"registry": "registry.example.org/affinage"},
        "secrets": {"database": "affinage-database", "blobs": "affinage-s3"},
    }
    given = {**good, variable: {**good[variable], **value}}
    file = terraform.folder / "refused.tfvars.json"
    file.write_text(json.dumps(given), encoding="utf-8")
    ended = terraform.run(root, "plan", "-no-color", f"-var-file={file}", f"-state={terraform.folder / 'refused.tfstate'}", check=False)
    message = " ".join(re.sub(r"[│╷╵]", " ", ended.stderr).split())
    assert ended.returncode == 1
    assert says in message
    assert "hunter2" not in ended.stdout + ended.stderr


def test_the_environment_of_aws_keeps_its_promises(aws: Terraform) -> None:
    """With the README's example among its tests: most of the time goes into starting the provider."""
    tests = aws.folder / AWS / "tests"
    mocks = re.search(r'^mock_provider "aws" \{\n.*?^\}', (tests / "aws.tftest.hcl").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert mocks
    smallest = f'{mocks.group(0)}\n\nvariables {{\n{example(AWS)}}}\n\nrun "smallest" {{\n  command = plan\n}}\n'
    (tests / "example.tftest.hcl").write_text(smallest, encoding="utf-8")
    aws.initialise(AWS)
    aws.run(AWS, "validate", "-no-color")  # with all modules
    assert 'run "smallest"... pass' in aws.run(AWS, "test", "-no-color").stdout


def test_the_examples_of_the_modules_fit_together(aws: Terraform) -> None:
    """One configuration of them all: what one gives is what the next takes."""
    root = "environments/examples"
    (aws.folder / root).mkdir()
    provider = 'provider "aws" {\n  region = "eu-west-3"\n}\n'
    modules = [example(module) for module in ROOTS if module.startswith("modules/")]
    (aws.folder / root / "main.tf").write_text("\n".join([provider, *modules]), encoding="utf-8")
    aws.initialise(root)
    aws.run(root, "validate", "-no-color")


@pytest.mark.parametrize("root", [root for root in WITH_AWS if root != AWS])
def test_module_of_aws_keeps_its_promises(aws: Terraform, root: str) -> None:
    aws.borrow_providers(root, of=AWS)
    aws.run(root, "test", "-no-color")
