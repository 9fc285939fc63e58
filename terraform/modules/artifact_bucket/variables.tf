variable "keep_deleted_days" {
  description = "Days during which an overwritten or deleted object can be brought back. It is also how long a forgotten person's rows outlive `forget`."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.keep_deleted_days >= 1 && floor(var.keep_deleted_days) == var.keep_deleted_days
    error_message = "Write a whole number of days, 1 or more."
  }
}

variable "name" {
  description = "Name of the bucket, unique in the world, for example \"affinage-prod-artifacts-7f3a\"."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name has 3 to 63 characters out of a-z, 0-9 and \"-\"; dots break the certificate of its address."
  }
}

variable "tags" {
  description = "Tags of every resource, besides the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "vpc_endpoint_id" {
  description = "S3 endpoint of the network. When set, objects are read and written through it only, whatever rights a caller has."
  type        = string
  default     = null
}
