mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      identity = [{ oidc = [{ issuer = "https://oidc.eks.eu-west-3.example/id/A" }] }]
    }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-3.example/id/A" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-3:123456789012:key/mock" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0a1b", latest_version = 1 }
  }
}

variables {
  name       = "affinage-test"
  subnet_ids = ["subnet-1", "subnet-2"]
  admins     = { platform = "arn:aws:iam::123456789012:role/platform" }
}

run "it_is_private_and_encrypted" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The API server is reached from inside only."
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.this.arn && contains(aws_eks_cluster.this.encryption_config[0].resources, "secrets")
    error_message = "Kubernetes Secrets are encrypted with a key of the cluster's own."
  }
  assert {
    condition     = aws_launch_template.nodes.block_device_mappings[0].ebs[0].encrypted == "true" && aws_launch_template.nodes.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Disks are encrypted, and a pod cannot ask for the node's credentials."
  }
  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "Network policies are enforced."
  }
  assert {
    condition     = !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions && keys(aws_eks_access_policy_association.admins) == ["platform"]
    error_message = "Those who were named enter, nobody else."
  }
  assert {
    condition     = output.oidc.issuer == "oidc.eks.eu-west-3.example/id/A"
    error_message = "The issuer comes without its scheme: it is the prefix of condition keys."
  }
}

run "named_ranges_open_the_api_server" {
  command = plan

  variables {
    public_access_cidrs = ["198.51.100.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && tolist(aws_eks_cluster.this.vpc_config[0].public_access_cidrs) == tolist(["198.51.100.0/24"])
    error_message = "Only the named range enters."
  }
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    public_access_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.public_access_cidrs]
}

run "a_cluster_that_nobody_can_enter_is_refused" {
  command = plan

  variables {
    admins = {}
  }

  expect_failures = [var.admins]
}
