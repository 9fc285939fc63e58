mock_provider "aws" {}

variables {
  name                      = "affinage-test"
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2"]
  client_security_group_ids = { nodes = "sg-1" }
}

run "it_is_private_encrypted_and_kept_without_a_password_written_down" {
  command = plan

  assert {
    condition     = !aws_db_instance.this.publicly_accessible && aws_db_instance.this.storage_encrypted && aws_db_instance.this.multi_az
    error_message = "Private, encrypted, with a standby."
  }
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period == 14
    error_message = "Nothing is lost by a mistake."
  }
  assert {
    condition     = [for parameter in aws_db_parameter_group.this.parameter : parameter.value if parameter.name == "rds.force_ssl"] == ["1"]
    error_message = "TLS is the only way in."
  }
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "AWS makes and keeps the password."
  }
  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.clients) == ["nodes"] && aws_vpc_security_group_ingress_rule.clients["nodes"].referenced_security_group_id == "sg-1" && aws_vpc_security_group_ingress_rule.clients["nodes"].cidr_ipv4 == null
    error_message = "A rule names a security group and no range of addresses."
  }
}

run "a_minor_version_is_refused" {
  command = plan

  variables {
    major_version = "16.3"
  }

  expect_failures = [var.major_version]
}

run "a_database_without_backup_is_refused" {
  command = plan

  variables {
    backup_days = 0
  }

  expect_failures = [var.backup_days]
}
