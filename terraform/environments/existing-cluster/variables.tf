# What may be written is checked by the module chart_values, which every environment shares.

variable "blobs" {
  description = "Where texts, datasets and adapters are kept: an S3 bucket, and a folder in it."
  type = object({
    bucket = string
    folder = optional(string, "")
  })
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
  description = "Servers by address: `registry` (MLflow), `vectors` (Weaviate), `prefect` (its API, ending in /api) and, where S3 is not Amazon's, `blobs`. `allow_http` names those that may be reached without TLS."
  type = object({
    allow_http = optional(set(string), [])
    blobs      = optional(string)
    prefect    = string
    registry   = string
    vectors    = string
  })
  nullable = false
}

variable "gateway_autoscaling" {
  description = "Fewest and most gateways, by load. Null: as many as `replicas.gateway` says."
  type = object({
    max = number
    min = optional(number, 2)
  })
  default = null
}

variable "gateway_egress_hosts" {
  description = "Hosts that an assistant's engine may be at, besides the pools of this release. Empty: none."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "generators" {
  description = "Pools of model servers, by name, and no others; null: the chart's own, a small model on processors. `engine` is what assistants declare; what else is left out has a default of the chart's."
  type = map(object({
    digest          = optional(string)
    engine          = string
    gpus            = optional(number)
    node_selector   = optional(map(string))
    replicas        = optional(number)
    repository      = optional(string)
    resources       = optional(object({ limits = optional(map(string), {}), requests = optional(map(string), {}) }))
    startup_seconds = optional(number)
    tag             = optional(string)
    weights_claim   = optional(string)
  }))
  default = null
}

variable "images" {
  description = "Where the images are: `registry` is a host with a folder, to which each component adds its name. `tag` is a release (null: the chart's), `digests` name exact images by component and win over it."
  type = object({
    digests      = optional(map(string), {})
    pull_policy  = optional(string)
    pull_secrets = optional(list(string), [])
    registry     = string
    tag          = optional(string)
  })
  nullable = false
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

variable "network_policy" {
  description = "Who may connect. `client_cidrs` and `client_namespaces` reach the gateway (both empty: anyone who has a token), `monitoring_namespaces` its metrics (null: the chart's). `servers` narrows where database, registry, vectors, blobs and prefect are (left out: any address) and on which ports of their pods (left out: those of the address)."
  type = object({
    client_cidrs          = optional(list(string), [])
    client_namespaces     = optional(list(string), [])
    enabled               = optional(bool, true)
    monitoring_namespaces = optional(list(string))
    servers               = optional(map(object({ cidrs = optional(list(string), []), ports = optional(list(number), []) })), {})
  })
  default  = {}
  nullable = false
}

variable "packages_claim" {
  description = "Claim of the volume that holds large Python packages, such as torch, that the images of generators and workers leave out; see services/README.md. Null: the images are whole."
  type        = string
  default     = null
}

variable "release" {
  description = "Name of the Helm release, and the namespace it is in. Objects are named after the release."
  type = object({
    name      = optional(string, "affinage")
    namespace = optional(string, "affinage")
  })
  default  = {}
  nullable = false
}

variable "replicas" {
  description = "Pods of each component. Null: the chart's."
  type = object({
    controller = optional(number)
    embedder   = optional(number)
    gateway    = optional(number)
    worker     = optional(number)
  })
  default  = {}
  nullable = false
}

variable "secret_keys" {
  description = "Under which key a Secret holds what is read from it. Null: the chart's."
  type = object({
    database = optional(string)
    vectors  = optional(string)
  })
  default  = {}
  nullable = false
}

variable "secrets" {
  description = "Names of Secrets in the release's namespace. `database`: the URL of PostgreSQL. `registry`: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. `vectors`: an API key. `blobs`: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; none where the service account has a role. `prefect`: PREFECT_API_AUTH_STRING."
  type = object({
    blobs    = optional(string)
    database = string
    prefect  = optional(string)
    registry = optional(string)
    vectors  = optional(string)
  })
  nullable = false
}

variable "service_account_annotations" {
  description = "Annotations of the platform's service account, for example the role that a cloud gives it."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "vectors_grpc_port" {
  description = "Weaviate's second port, on the host of endpoints.vectors. Null: the chart's."
  type        = number
  default     = null
}

variable "weights_claim" {
  description = "Claim of the volume that holds the weights of the bases that workers train and judge; they see it at /weights. Null: packaged models only."
  type        = string
  default     = null
}
