"""Terraform for the tests of this folder; a test that cannot run says what is missing."""

from __future__ import annotations

import pytest

from tests.infra.terraform import Terraform, binary, mirror


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform on a copy of `terraform/`, for configurations without providers."""
    if binary() is None:
        pytest.skip("terraform is not installed; 1.7 or later runs these tests")
    return Terraform.copied_to(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def aws(terraform: Terraform) -> Terraform:
    """The same, where the provider of AWS is."""
    if mirror() is None:
        pytest.skip("no folder `tf-plugins` with the provider hashicorp/aws; TF_PLUGINS names it")
    return terraform
