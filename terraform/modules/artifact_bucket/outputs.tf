output "arn" {
  description = "The bucket, for the policy of who reads and writes it."
  value       = aws_s3_bucket.this.arn
}

output "kms_key_arn" {
  description = "The key of its objects, for the same policy."
  value       = aws_kms_key.this.arn
}

output "name" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.bucket
}
