"""The environment of AWS, applied to a double of AWS that speaks its HTTP: what the double knows of it.

It knows networks, buckets, keys, roles and EKS clusters. It knows no access entries and no add-ons of EKS; the provider waits 80 s
for a database and 55 s for a bucket's life cycle: those are only planned (`test_terraform.py`). It denies what a bucket's policy
denies under a condition, whatever the condition, so no object is written.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.infra.terraform import Terraform
from tests.infra.test_terraform import AWS, example
from tests.support.programs import free_ports, started, wait_for

pytestmark = pytest.mark.cluster

START_SECONDS = 60
REGION = "eu-west-3"
BUCKET = "affinage-prod-artifacts-7f3a"  # the README's
TARGETS = [
    f"-target=module.{module}"
    for module in (
        "network",
        "workload_identity",
        "artifact_bucket.aws_s3_bucket_ownership_controls.this",
        "artifact_bucket.aws_s3_bucket_policy.this",
        "artifact_bucket.aws_s3_bucket_server_side_encryption_configuration.this",
        "artifact_bucket.aws_s3_bucket_versioning.this",
    )
]
SERVICES = ("ec2", "eks", "iam", "kms", "logs", "s3", "sts")
LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/moto-api/", timeout=5)
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The double's address; boto3 and Terraform have a login there and nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LOGIN.items():
            patch.setenv(name, value)
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")  # those that AWS brings, which the cluster's roles are given
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        # A process of its own: in this one, another test's server may have made the accounts without these policies.
        with started("moto", command, folder=tmp_path_factory.mktemp("moto")) as server:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _answers(url), what="The double of AWS is not up", seconds=START_SECONDS, servers=[server])
            yield url


@pytest.fixture(scope="module")
def applied(aws: Terraform, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The README's example, applied to the double in a copy of its own."""
    terraform = Terraform.copied_to(tmp_path_factory.mktemp("applied"))
    root = terraform.folder / AWS
    override = {
        "terraform": {"backend": {"local": {}}},
        "provider": {
            "aws": {
                "access_key": "test",
                "secret_key": "test",
                "s3_use_path_style": True,
                "skip_credentials_validation": True,
                "skip_metadata_api_check": True,
                "skip_requesting_account_id": True,
                "endpoints": [dict.fromkeys(SERVICES, endpoint)],
            }
        },
    }
    (root / "double_override.tf.json").write_text(json.dumps(override), encoding="utf-8")
    (root / "terraform.tfvars").write_text(example(AWS), encoding="utf-8")
    terraform.run(AWS, "init", "-no-color")
    terraform.run(AWS, "apply", "-auto-approve", "-no-color", *TARGETS)
    return terraform


def test_a_second_plan_changes_nothing(applied: Terraform) -> None:
    """Of network and bucket; the double forgets who may enter an EKS cluster."""
    targets = [target for target in TARGETS if "workload_identity" not in target]
    ended = applied.run(AWS, "plan", "-detailed-exitcode", "-no-color", *targets, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_bucket_is_private_and_encrypted(applied: Terraform, endpoint: str) -> None:
    s3: Any = boto3.client("s3", endpoint_url=endpoint)
    [rule] = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    denied = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert [statement["Effect"] for statement in denied] == ["Deny", "Deny"]


def test_the_network_has_no_way_out(applied: Terraform, endpoint: str) -> None:
    ec2: Any = boto3.client("ec2", endpoint_url=endpoint)
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["affinage-prod"]}])["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    tables = ec2.describe_route_tables(Filters=inside)["RouteTables"]
    ways = {route.get("GatewayId", "") for table in tables for route in table["Routes"]}
    assert not any(way.startswith("igw-") for way in ways)
    assert not ec2.describe_nat_gateways(Filters=inside)["NatGateways"]
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in ec2.describe_subnets(Filters=inside)["Subnets"])


def test_the_role_is_for_the_platforms_service_account(applied: Terraform, endpoint: str) -> None:
    iam: Any = boto3.client("iam", endpoint_url=endpoint)
    trust = iam.get_role(RoleName="affinage-prod-blobs")["Role"]["AssumeRolePolicyDocument"]
    [subject] = [value for key, value in trust["Statement"][0]["Condition"]["StringEquals"].items() if key.endswith(":sub")]
    assert subject in ("system:serviceaccount:affinage:affinage-platform", ["system:serviceaccount:affinage:affinage-platform"])


def test_the_state_holds_no_password(applied: Terraform) -> None:
    state = Path(applied.folder / AWS / "terraform.tfstate").read_text(encoding="utf-8")
    assert BUCKET in state
    assert "password" not in state
