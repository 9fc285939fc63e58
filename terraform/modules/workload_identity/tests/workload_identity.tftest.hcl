mock_provider "aws" {}

variables {
  name             = "affinage-test"
  namespace        = "affinage"
  service_accounts = ["affinage-worker", "affinage"]
  oidc             = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/id/A", issuer = "oidc.example/id/A" }
  bucket_arn       = "arn:aws:s3:::b"
  kms_key_arn      = "arn:aws:kms:eu-west-3:123456789012:key/k"
  prefix           = "affinage/"
}

run "named_service_accounts_reach_their_folder_and_their_key_only" {
  command = plan

  assert {
    condition     = jsondecode(aws_iam_role.this.assume_role_policy).Statement[0].Condition.StringEquals["oidc.example/id/A:sub"] == ["system:serviceaccount:affinage:affinage", "system:serviceaccount:affinage:affinage-worker"]
    error_message = "The trust names each service account."
  }
  assert {
    condition     = keys(jsondecode(aws_iam_role.this.assume_role_policy).Statement[0].Condition) == ["StringEquals"]
    error_message = "The trust compares exactly, without wildcards."
  }
  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Resource] == ["arn:aws:s3:::b", "arn:aws:s3:::b/affinage/*", "arn:aws:kms:eu-west-3:123456789012:key/k"]
    error_message = "Objects below the prefix, and one key."
  }
  assert {
    condition     = !can(jsondecode(aws_iam_role_policy.this.policy).Statement[0].Condition)
    error_message = "Listing has no condition: with one, an object that is not there answers 403 instead of 404."
  }
  assert {
    condition     = !strcontains(aws_iam_role_policy.this.policy, ":*\"")
    error_message = "No action is a wildcard."
  }
}

run "every_service_account_is_refused" {
  command = plan

  variables {
    service_accounts = ["*"]
  }

  expect_failures = [var.service_accounts]
}
