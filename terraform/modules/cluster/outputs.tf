output "name" {
  description = "The cluster's name, for `aws eks update-kubeconfig --name`."
  value       = aws_eks_cluster.this.name
}

output "node_role_arn" {
  description = "The role of further node groups. Known once the nodes' rights are attached."
  value       = aws_iam_role.nodes.arn
  depends_on  = [aws_eks_addon.before_nodes, aws_iam_role_policy_attachment.nodes]
}

output "node_security_group_id" {
  description = "Security group of nodes and control plane: who may connect to the database."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "oidc" {
  description = "The cluster's OpenID provider, for roles of service accounts."
  value = {
    arn    = aws_iam_openid_connect_provider.this.arn
    issuer = trimprefix(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://")
  }
}
