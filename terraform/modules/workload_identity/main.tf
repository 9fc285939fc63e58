locals {
  _folder = var.prefix == "" ? "" : "${trim(var.prefix, "/")}/"

  trust = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = var.oidc.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = { StringEquals = {
        "${var.oidc.issuer}:aud" = "sts.amazonaws.com"
        "${var.oidc.issuer}:sub" = [for name in sort(var.service_accounts) : "system:serviceaccount:${var.namespace}:${name}"]
      } }
    }]
  }

  permissions = {
    Version = "2012-10-17"
    Statement = [
      {
        # Names of the whole bucket, without a condition on the prefix: who may not list is told 403 instead of 404 about an
        # object that is not there, and a new object could not be told from a forbidden one.
        Sid      = "Names"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = var.bucket_arn
      },
      {
        Sid      = "Objects"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        Resource = "${var.bucket_arn}/${local._folder}*"
      },
      {
        Sid      = "Key"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = var.kms_key_arn
      },
    ]
  }
}

resource "aws_iam_role" "this" {
  name               = var.name
  description        = "Reads and writes Affinage's bucket from the namespace ${var.namespace}"
  assume_role_policy = jsonencode(local.trust)
  tags               = var.tags
}

resource "aws_iam_role_policy" "this" {
  name   = "blobs"
  role   = aws_iam_role.this.id
  policy = jsonencode(local.permissions)
}
