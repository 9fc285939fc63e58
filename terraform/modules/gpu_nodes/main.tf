locals {
  label = "affinage.io/pool"
  taint = { key = "nvidia.com/gpu", value = "present", effect = "NO_SCHEDULE" }
}

resource "aws_launch_template" "this" {
  name                   = "${var.cluster_name}-${var.name}"
  update_default_version = true
  tags                   = var.tags

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = var.disk_gib
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  # One hop: a pod cannot ask for the node's credentials.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tag_specifications {
    resource_type = "instance"
    tags          = merge(var.tags, { Name = "${var.cluster_name}-${var.name}" })
  }
}

resource "aws_eks_node_group" "this" {
  cluster_name           = var.cluster_name
  node_group_name_prefix = "${var.name}-"
  node_role_arn          = var.node_role_arn
  subnet_ids             = var.subnet_ids
  ami_type               = "AL2023_x86_64_NVIDIA"
  instance_types         = var.instance_types
  labels                 = merge(var.labels, { (local.label) = var.name })
  tags                   = var.tags

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  scaling_config {
    min_size     = var.min
    max_size     = var.max
    desired_size = var.min
  }

  # Whatever does not ask for a GPU stays off these nodes.
  taint {
    key    = local.taint.key
    value  = local.taint.value
    effect = local.taint.effect
  }

  update_config {
    max_unavailable = 1
  }

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [scaling_config[0].desired_size] # an autoscaler's

    precondition {
      condition     = var.min >= 0 && var.max >= max(1, var.min)
      error_message = "Pool \"${var.name}\": `max` is 1 or more and not below `min`, and `min` is not negative."
    }
  }
}
