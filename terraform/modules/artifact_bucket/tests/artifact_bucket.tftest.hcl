mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::affinage-test", id = "affinage-test" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-3:123456789012:key/mock" }
  }
}

variables {
  name = "affinage-test"
}

run "a_bucket_is_private_encrypted_and_versioned" {
  assert {
    condition     = alltrue([aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy, aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets])
    error_message = "Nothing in the bucket can be made public."
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.this.arn && aws_kms_key.this.enable_key_rotation
    error_message = "Objects are encrypted with the bucket's own key, which rotates."
  }
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled" && aws_s3_bucket.this.force_destroy == false
    error_message = "A mistake can be undone."
  }
  assert {
    condition     = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Sid] == ["TlsOnly"]
    error_message = "Without an endpoint the policy asks for TLS and nothing else."
  }
}

run "an_endpoint_keeps_objects_inside" {
  variables {
    vpc_endpoint_id = "vpce-0a1b"
  }

  assert {
    condition     = jsondecode(aws_s3_bucket_policy.this.policy).Statement[1].Condition.StringNotEquals["aws:SourceVpce"] == "vpce-0a1b"
    error_message = "Objects move through the network's endpoint only."
  }
  assert {
    condition     = !contains(flatten([jsondecode(aws_s3_bucket_policy.this.policy).Statement[1].Action]), "s3:*")
    error_message = "The bucket itself can still be configured from outside."
  }
}

run "a_name_with_dots_is_refused" {
  command = plan

  variables {
    name = "affinage.test"
  }

  expect_failures = [var.name]
}
