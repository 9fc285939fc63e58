variable "cluster_name" {
  description = "The cluster."
  type        = string
  nullable    = false
}

variable "disk_gib" {
  description = "Disk of a node, in GiB: the engine's image (some 10), and every base it has served."
  type        = number
  default     = 200
  nullable    = false
}

variable "instance_types" {
  description = "Instances with NVIDIA GPUs of one kind, for example [\"g6e.xlarge\"]. Another kind of GPU is another pool."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.instance_types) > 0 && alltrue([for type in var.instance_types : can(regex("^(g4dn|g[5-9][a-z]*|gr6|p[3-9][a-z0-9-]*)[.]", type)) && !startswith(type, "g5g.")])
    error_message = "Name types of the families g4dn, g5 and up, gr6 or p3 and up, for example [\"g6e.xlarge\"]: NVIDIA GPUs on x86, which the nodes' image is for."
  }
}

variable "labels" {
  description = "Labels of the nodes, besides `affinage.io/pool`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "max" {
  description = "Most nodes."
  type        = number
  default     = 1
  nullable    = false
}

variable "min" {
  description = "Fewest nodes, which is also how many there are until an autoscaler decides. 0 costs nothing and answers nothing."
  type        = number
  default     = 1
  nullable    = false
}

variable "name" {
  description = "Name of the pool: the same as the generator's pool that runs on it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", var.name))
    error_message = "Write at most 30 characters out of a-z, 0-9 and \"-\", beginning with a letter."
  }
}

variable "node_role_arn" {
  description = "The role of the cluster's nodes."
  type        = string
  nullable    = false
}

variable "subnet_ids" {
  description = "Private subnets; narrow them to the zones that have these instances."
  type        = list(string)
  nullable    = false
}

variable "tags" {
  description = "Tags of every resource, besides the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
