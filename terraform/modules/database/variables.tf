variable "allocated_gib" {
  description = "Storage at the start, in GiB; it grows by itself up to `max_gib`."
  type        = number
  default     = 50
  nullable    = false
}

variable "backup_days" {
  description = "Days that can be restored to the second."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "Write 1 to 35 days; 0 would switch backups off, and the database is the record of truth."
  }
}

variable "client_security_group_ids" {
  description = "Who may connect, by a name of your choice: the security groups of the cluster's nodes."
  type        = map(string)
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the database. Set it to false, apply, then destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "instance_class" {
  description = "Size of the instance."
  type        = string
  default     = "db.m7g.large"
  nullable    = false
}

variable "major_version" {
  description = "Major version of PostgreSQL; minor ones are applied in the maintenance window."
  type        = string
  default     = "16"
  nullable    = false

  validation {
    condition     = contains(["15", "16", "17"], var.major_version)
    error_message = "Write \"15\", \"16\" or \"17\", without a minor version."
  }
}

variable "max_gib" {
  description = "Storage that it may grow to, in GiB."
  type        = number
  default     = 500
  nullable    = false
}

variable "multi_az" {
  description = "Whether a standby in another zone takes over when this one fails."
  type        = bool
  default     = true
  nullable    = false
}

variable "name" {
  description = "Name of the instance, for example \"affinage-prod\"."
  type        = string
  nullable    = false
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

variable "vpc_id" {
  description = "The network."
  type        = string
  nullable    = false
}
