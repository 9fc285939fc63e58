terraform {
  required_version = ">= 1.7"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.81, < 6"
    }
  }

  # Bucket, key and region of the state come from a file: terraform init -backend-config=state.hcl
  backend "s3" {
    encrypt = true
  }
}
