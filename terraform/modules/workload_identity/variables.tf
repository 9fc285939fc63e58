variable "bucket_arn" {
  description = "The bucket that the platform reads and writes."
  type        = string
  nullable    = false
}

variable "kms_key_arn" {
  description = "The key of the bucket's objects."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the role, for example \"affinage-prod-blobs\"."
  type        = string
  nullable    = false
}

variable "namespace" {
  description = "Namespace of the release."
  type        = string
  nullable    = false
}

variable "oidc" {
  description = "The cluster's OpenID provider: its ARN, and its issuer without \"https://\"."
  type = object({
    arn    = string
    issuer = string
  })
  nullable = false

  validation {
    condition     = !startswith(var.oidc.issuer, "https://")
    error_message = "Give the issuer without \"https://\": it becomes the prefix of condition keys."
  }
}

variable "prefix" {
  description = "Folder of the bucket that is the platform's; empty: all of it."
  type        = string
  default     = ""
  nullable    = false
}

variable "service_accounts" {
  description = "Service accounts of the release that may take the role, by name."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.service_accounts) > 0 && alltrue([for name in var.service_accounts : can(regex("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", name))])
    error_message = "Name each service account in full; \"*\" would let every pod of the namespace take the role."
  }
}

variable "tags" {
  description = "Tags of every resource, besides the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
