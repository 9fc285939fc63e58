output "administrator_secret_arn" {
  description = "Where Secrets Manager keeps the administrator's password; only to create the platform's own role with."
  value       = one(aws_db_instance.this.master_user_secret[*].secret_arn)
}

output "host" {
  description = "Host name of the server."
  value       = aws_db_instance.this.address
}

output "name" {
  description = "The database in it."
  value       = aws_db_instance.this.db_name
}

output "port" {
  description = "Port of the server."
  value       = local.port
}
