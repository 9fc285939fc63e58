variable "admins" {
  description = "Who administers the cluster: IAM principals' ARNs, by a name of your choice. Whoever runs Terraform is not added."
  type        = map(string)
  nullable    = false
}

variable "availability_zones" {
  description = "Two to four zones of the region, for example [\"eu-west-3a\", \"eu-west-3b\"]."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for zone in var.availability_zones : can(regex("^[a-z]+(-[a-z]+)+-[0-9][a-z]$", zone))]) && length(distinct([for zone in var.availability_zones : substr(zone, 0, length(zone) - 1)])) == 1
    error_message = "Name zones of one region, for example \"eu-west-3a\" and \"eu-west-3b\"; local zones have no EKS control plane."
  }
}

variable "bucket_name" {
  description = "Name of the artifacts' bucket, unique in the world."
  type        = string
  nullable    = false
}

variable "cidr" {
  description = "Addresses of the network, between /16 and /20."
  type        = string
  default     = "10.40.0.0/16"
  nullable    = false
}

variable "database" {
  description = "Size and safety of PostgreSQL. Storage in GiB."
  type = object({
    allocated_gib       = optional(number, 50)
    backup_days         = optional(number, 14)
    deletion_protection = optional(bool, true)
    instance_class      = optional(string, "db.m7g.large")
    major_version       = optional(string, "16")
    max_gib             = optional(number, 500)
    multi_az            = optional(bool, true)
  })
  default  = {}
  nullable = false
}

variable "declarations_file" {
  description = "YAML file of sources, assistants and roles, as `affinage apply` takes it. Null: declared otherwise."
  type        = string
  default     = null

  validation {
    condition     = var.declarations_file == null ? true : can(yamldecode(file(var.declarations_file)))
    error_message = "declarations_file is not there or is no YAML; relative paths start where terraform runs."
  }
}

variable "documents_claim" {
  description = "Claim of the volume that holds the documents of folder sources; workers see it at /srv/documents."
  type        = string
  default     = null
}

variable "endpoints" {
  description = "Servers inside or beside the cluster, by address: `registry` (MLflow), `vectors` (Weaviate), `prefect` (its API, ending in /api). `allow_http` names those that may be reached without TLS."
  type = object({
    allow_http = optional(set(string), [])
    prefect    = string
    registry   = string
    vectors    = string
  })
  nullable = false
}

variable "gpu_pools" {
  description = "Pools of GPU nodes, by name, each with the generator that runs on them. `engine` is what assistants declare, `gpus` a number for each pod, `weights_claim` the volume that holds the weights. Empty: no GPU, and the chart's own small model on processors."
  type = map(object({
    disk_gib       = optional(number, 200)
    engine         = string
    gpus           = optional(number, 1)
    instance_types = list(string)
    max            = optional(number, 1)
    min            = optional(number, 1)
    replicas       = optional(number)
    resources      = optional(object({ limits = optional(map(string), {}), requests = optional(map(string), {}) }))
    weights_claim  = optional(string)
  }))
  default  = {}
  nullable = false
}

variable "images" {
  description = "Where the images are: `registry` is a host with a folder that the nodes reach, such as ECR's; `tag` a release, `digests` exact images by component."
  type = object({
    digests      = optional(map(string), {})
    pull_policy  = optional(string)
    pull_secrets = optional(list(string), [])
    registry     = string
    tag          = optional(string)
  })
  nullable = false
}

variable "keep_deleted_days" {
  description = "Days during which an overwritten or deleted object can be brought back; also how long a forgotten person's rows outlive `forget`."
  type        = number
  default     = 30
  nullable    = false
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.33"
  nullable    = false
}

variable "monitoring" {
  description = "What the Prometheus operator and Grafana's sidecar pick up. `labels` are those that the operator selects by."
  type = object({
    dashboard       = optional(bool, false)
    labels          = optional(map(string), {})
    rules           = optional(bool, false)
    service_monitor = optional(bool, false)
  })
  default  = {}
  nullable = false
}

variable "name" {
  description = "Prefix of every name, for example \"affinage-prod\"."
  type        = string
  nullable    = false
}

variable "nodes" {
  description = "Nodes for everything without a GPU."
  type = object({
    disk_gib       = optional(number, 100)
    instance_types = optional(list(string), ["m7i.2xlarge"])
    max            = optional(number, 6)
    min            = optional(number, 2)
  })
  default  = {}
  nullable = false
}

variable "outbound_internet" {
  description = "Whether nodes may open connections to the Internet. Without it, images come from a registry that the network reaches."
  type        = bool
  default     = false
  nullable    = false
}

variable "packages_claim" {
  description = "Claim of the volume that holds large Python packages, such as torch, that the images of generators and workers leave out; see services/README.md. Null: the images are whole."
  type        = string
  default     = null
}

variable "public_access_cidrs" {
  description = "Addresses outside the network that reach the API server. Empty: it is reached from inside only."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "release" {
  description = "Name of the Helm release, and the namespace it is in."
  type = object({
    name      = optional(string, "affinage")
    namespace = optional(string, "affinage")
  })
  default  = {}
  nullable = false
}

variable "secrets" {
  description = "Names of Secrets in the release's namespace. `database`: the URL of PostgreSQL. `registry`: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. `vectors`: an API key. `prefect`: PREFECT_API_AUTH_STRING."
  type = object({
    database = optional(string, "affinage-database")
    prefect  = optional(string)
    registry = optional(string)
    vectors  = optional(string)
  })
  default  = {}
  nullable = false
}

variable "tags" {
  description = "Tags of every resource, besides `project`, `environment` and `managed-by`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "weights_claim" {
  description = "Claim of the volume that holds the weights of the bases that workers train and judge; they see it at /weights. Null: packaged models only."
  type        = string
  default     = null
}
