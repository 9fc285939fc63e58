output "annotations" {
  description = "Annotations of the release's service accounts."
  value       = { "eks.amazonaws.com/role-arn" = aws_iam_role.this.arn }
}

output "role_arn" {
  description = "The role."
  value       = aws_iam_role.this.arn
}
