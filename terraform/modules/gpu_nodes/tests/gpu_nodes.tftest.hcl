mock_provider "aws" {}

variables {
  name           = "small"
  cluster_name   = "affinage-test"
  node_role_arn  = "arn:aws:iam::123456789012:role/nodes"
  subnet_ids     = ["subnet-1", "subnet-2"]
  instance_types = ["g6e.xlarge"]
}

run "only_what_tolerates_the_taint_runs_there" {
  command = plan

  assert {
    condition     = [for taint in aws_eks_node_group.this.taint : "${taint.key}=${taint.value}:${taint.effect}"] == ["nvidia.com/gpu=present:NO_SCHEDULE"]
    error_message = "GPU nodes have the taint that the chart's generators with GPUs tolerate."
  }
  assert {
    condition     = aws_eks_node_group.this.labels["affinage.io/pool"] == output.node_selector["affinage.io/pool"]
    error_message = "The node selector fits the label."
  }
  assert {
    condition     = aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true" && aws_launch_template.this.metadata_options[0].http_tokens == "required"
    error_message = "Disks are encrypted, and metadata ask for a token."
  }
}

run "a_gpu_that_the_image_is_not_for_is_refused" {
  command = plan

  variables {
    instance_types = ["g6e.xlarge", "g5g.xlarge"]
  }

  expect_failures = [var.instance_types]
}

run "fewer_nodes_at_most_than_at_least_is_refused" {
  command = plan

  variables {
    min = 2
    max = 1
  }

  expect_failures = [aws_eks_node_group.this]
}
