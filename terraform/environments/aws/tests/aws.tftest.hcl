mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-west-3" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::affinage-test-artifacts", id = "affinage-test-artifacts" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-3:123456789012:key/mock" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/id/A" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = { identity = [{ oidc = [{ issuer = "https://oidc.example/id/A" }] }] }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0a1b", latest_version = 1 }
  }
  mock_resource "aws_db_instance" {
    defaults = {
      address            = "affinage-test.example.internal"
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:mock", kms_key_id = "k", secret_status = "active" }]
    }
  }
}

variables {
  name               = "affinage-test"
  availability_zones = ["eu-west-3a", "eu-west-3b"]
  bucket_name        = "affinage-test-artifacts"
  admins             = { platform = "arn:aws:iam::123456789012:role/platform" }
  images             = { registry = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/affinage" }
  endpoints = {
    registry   = "http://mlflow.mlflow.svc:5000"
    vectors    = "http://weaviate.weaviate.svc:8080"
    prefect    = "http://prefect-server.prefect.svc:4200/api"
    allow_http = ["registry", "vectors", "prefect"]
  }
  gpu_pools = {
    small = { engine = "base:mistral-small", instance_types = ["g6e.xlarge"], max = 2, weights_claim = "weights" }
  }
}

run "what_is_made_is_what_the_chart_is_told" {
  assert {
    condition     = output.values.blobs.url == "s3://affinage-test-artifacts/affinage" && !can(output.values.blobs.existingSecret)
    error_message = "The bucket is reached by a role, without a Secret."
  }
  assert {
    condition     = output.values.serviceAccount.annotations["eks.amazonaws.com/role-arn"] == "arn:aws:iam::123456789012:role/mock"
    error_message = "The service account has the role."
  }
  assert {
    condition = jsonencode(output.values.generators) == jsonencode({
      small   = { engine = "base:mistral-small", gpus = 1, nodeSelector = { "affinage.io/pool" = "small" }, weights = { existingClaim = "weights" } }
      smollm2 = null
    })
    error_message = "The generator runs on the nodes made for it."
  }
  assert {
    condition     = jsonencode(output.values.networkPolicy.external.database) == jsonencode({ cidrs = ["10.40.0.0/16"], ports = [] })
    error_message = "The database is inside the network."
  }
  assert {
    condition     = output.database.administrator_secret_arn != null && output.database.host == "affinage-test.example.internal"
    error_message = "The administrator's password goes by the place where it is kept."
  }
  assert {
    condition     = output.kubeconfig == "aws eks update-kubeconfig --region eu-west-3 --name affinage-test"
    error_message = "The region is that of the zones."
  }
}

run "without_gpus_the_charts_own_pool_serves" {
  command = plan

  variables {
    gpu_pools = {}
  }

  assert {
    condition     = length(module.gpu_nodes) == 0 && length(output.values.generators) == 0
    error_message = "No pool is named, so the chart's own stays."
  }
}

run "a_pool_that_cannot_be_updated_is_warned_of" {
  command = plan

  variables {
    gpu_pools = { small = { engine = "base:mistral-small", instance_types = ["g6e.xlarge"] } }
  }

  expect_failures = [check.gpu_pools_can_be_updated]
}

run "zones_of_two_regions_are_refused" {
  command = plan

  variables {
    availability_zones = ["eu-west-3a", "eu-central-1a"]
  }

  expect_failures = [var.availability_zones]
}
