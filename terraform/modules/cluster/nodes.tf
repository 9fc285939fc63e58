resource "aws_launch_template" "nodes" {
  name                   = "${var.name}-nodes"
  update_default_version = true
  tags                   = var.tags

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = var.nodes.disk_gib
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
    tags          = merge(var.tags, { Name = "${var.name}-nodes" })
  }
}

resource "aws_eks_node_group" "nodes" {
  cluster_name           = aws_eks_cluster.this.name
  node_group_name_prefix = "nodes-"
  node_role_arn          = aws_iam_role.nodes.arn
  subnet_ids             = var.subnet_ids
  ami_type               = "AL2023_x86_64_STANDARD"
  instance_types         = var.nodes.instance_types
  version                = var.kubernetes_version
  tags                   = var.tags

  launch_template {
    id      = aws_launch_template.nodes.id
    version = aws_launch_template.nodes.latest_version
  }

  scaling_config {
    min_size     = var.nodes.min
    max_size     = var.nodes.max
    desired_size = var.nodes.min
  }

  update_config {
    max_unavailable = 1
  }

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [scaling_config[0].desired_size] # an autoscaler's
  }

  # Without its network a node never becomes ready, and without its rights it never joins.
  depends_on = [aws_eks_addon.before_nodes, aws_iam_role_policy_attachment.nodes]
}

locals {
  # A node is ready once it has a network and reaches the API server through kube-proxy: both come before it.
  _before_nodes = {
    kube-proxy = {}
    vpc-cni    = { enableNetworkPolicy = "true" } # the chart's network policies are written for a cluster that enforces them
  }
}

resource "aws_eks_addon" "before_nodes" {
  for_each                    = local._before_nodes
  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  resolve_conflicts_on_update = "OVERWRITE"
  configuration_values        = length(each.value) > 0 ? jsonencode(each.value) : null
  tags                        = var.tags
}

resource "aws_eks_addon" "dns" {
  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = "coredns"
  resolve_conflicts_on_update = "OVERWRITE"
  tags                        = var.tags
  depends_on                  = [aws_eks_node_group.nodes]
}
