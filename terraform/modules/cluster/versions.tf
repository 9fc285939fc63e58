terraform {
  required_version = ">= 1.7"
  required_providers {
    aws = {
      source = "hashicorp/aws"
      # From 5.81 on an OpenID provider needs no thumbprint of its certificate; earlier ones need another provider to read it.
      version = ">= 5.81, < 6"
    }
  }
}
