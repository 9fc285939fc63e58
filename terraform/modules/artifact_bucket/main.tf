locals {
  _objects = "${aws_s3_bucket.this.arn}/*"

  _tls_only = {
    Sid       = "TlsOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [aws_s3_bucket.this.arn, local._objects]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }
  # Objects only, not the bucket: whoever runs Terraform sits outside the network and must still be able to configure it.
  _from_inside_only = {
    Sid       = "FromInsideOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
    Resource  = local._objects
    Condition = { StringNotEquals = { "aws:SourceVpce" = var.vpc_endpoint_id } }
  }

  policy = {
    Version   = "2012-10-17"
    Statement = [for statement in [local._tls_only, local._from_inside_only] : statement if statement.Sid == "TlsOnly" || var.vpc_endpoint_id != null]
  }
}

resource "aws_kms_key" "this" {
  description             = "Objects of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = var.tags
}

resource "aws_s3_bucket" "this" {
  bucket        = var.name
  force_destroy = false
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket     = aws_s3_bucket.this.id
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "deleted-and-unfinished"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    expiration {
      expired_object_delete_marker = true
    }
    noncurrent_version_expiration {
      noncurrent_days = var.keep_deleted_days
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = aws_s3_bucket.this.id
  policy     = jsonencode(local.policy)
  depends_on = [aws_s3_bucket_public_access_block.this]
}
