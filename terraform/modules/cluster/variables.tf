variable "admins" {
  description = "Who administers the cluster: IAM principals' ARNs, by a name of your choice. Whoever runs Terraform is not added."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(var.admins) > 0 && alltrue([for arn in values(var.admins) : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "Name at least one role or user by its ARN, for example { platform = \"arn:aws:iam::123456789012:role/platform\" }: without one nobody can enter."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.33"
  nullable    = false

  validation {
    condition     = can(regex("^1\\.[3-9][0-9]$", var.kubernetes_version))
    error_message = "Write a minor version from \"1.30\" on, for example \"1.33\"."
  }
}

variable "log_retention_days" {
  description = "Days for which the control plane's logs, the audit log among them, are kept."
  type        = number
  default     = 90
  nullable    = false
}

variable "name" {
  description = "Name of the cluster, for example \"affinage-prod\"."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "Write 3 to 40 characters out of a-z, 0-9 and \"-\", beginning with a letter: roles add to the name."
  }
}

variable "nodes" {
  description = "Nodes for everything without a GPU. `min` 2 keeps the gateway up when one is replaced."
  type = object({
    disk_gib       = optional(number, 100)
    instance_types = optional(list(string), ["m7i.2xlarge"])
    max            = optional(number, 6)
    min            = optional(number, 2)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.nodes.min >= 1 && var.nodes.max >= var.nodes.min
    error_message = "`min` is 1 or more, and `max` not below it."
  }
}

variable "public_access_cidrs" {
  description = "Addresses outside the network that reach the API server. Empty: it is reached from inside only."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "Write the ranges you connect from, for example [\"198.51.100.0/24\"], never \"0.0.0.0/0\"."
  }
}

variable "subnet_ids" {
  description = "Private subnets, in two zones or more."
  type        = list(string)
  nullable    = false
}

variable "tags" {
  description = "Tags of every resource, besides the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
