variable "availability_zones" {
  description = "Zones that hold one private subnet each, for example [\"eu-west-3a\", \"eu-west-3b\"]."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(distinct(var.availability_zones)) == length(var.availability_zones) && length(var.availability_zones) >= 2 && length(var.availability_zones) <= 4
    error_message = "Name two to four different zones: the database's standby and the cluster's control plane live in two."
  }
}

variable "cidr" {
  description = "Addresses of the network. Each zone's private subnet takes a sixteenth of it."
  type        = string
  default     = "10.40.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 0)) && try(tonumber(split("/", var.cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.cidr)[1]), 99) <= 20
    error_message = "Write an IPv4 range between /16 and /20, for example \"10.40.0.0/16\": each pod has an address of its own."
  }
}

variable "endpoint_services" {
  description = "AWS services reached inside the network. The default is what nodes and pods of this platform call."
  type        = set(string)
  default     = ["ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "elasticloadbalancing", "logs", "sts"]
  nullable    = false
}

variable "name" {
  description = "Prefix of every name in this network, for example \"affinage-prod\"."
  type        = string
  nullable    = false
}

variable "outbound_internet" {
  description = "Whether nodes may open connections to the Internet, through one NAT gateway in each zone. Without it images come from a registry that the network reaches: ECR, or one on site."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags of every resource, besides the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
