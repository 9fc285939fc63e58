# A message names the entry that is wrong and never repeats it: Terraform prints the values that a condition reads, so
# conditions read whole objects, and an address that holds a password is refused without being shown.

variable "blobs" {
  description = "Where texts, datasets and adapters are kept: an S3 bucket, and a folder in it."
  type = object({
    bucket = string
    folder = optional(string, "")
  })
  nullable = false

  validation {
    condition     = alltrue([for blobs in [var.blobs] : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", blobs.bucket)) && can(regex("^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$", blobs.folder))])
    error_message = "Write blobs as { bucket = \"affinage\", folder = \"prod\" }: names, no \"s3://\" and no \"/\" at the end. The address of an S3 server on site goes to endpoints.blobs."
  }
}

variable "declarations" {
  description = "What exists: sources, assistants and roles, as `affinage apply` takes them. Null: declared otherwise."
  type        = any
  default     = null

  validation {
    condition     = var.declarations == null ? true : can(keys(var.declarations)) && length(setsubtract(try(keys(var.declarations), ["?"]), ["assistants", "roles", "sources"])) == 0
    error_message = "declarations is an object with the keys `assistants`, `roles` and `sources` (docs/how-to/declare.md), or null."
  }
}

variable "documents_claim" {
  description = "Claim of the volume that holds the documents of folder sources; workers see it at /srv/documents. Null: no folder sources."
  type        = string
  default     = null
}

variable "endpoints" {
  description = "Servers outside the release, by address: `registry` (MLflow), `vectors` (Weaviate), `prefect` (its API, ending in /api) and, where S3 is not Amazon's, `blobs`. `allow_http` names those that may be reached without TLS."
  type = object({
    allow_http = optional(set(string), [])
    blobs      = optional(string)
    prefect    = string
    registry   = string
    vectors    = string
  })
  nullable = false

  validation {
    condition     = alltrue([for name, url in var.endpoints : !can(regex("@", url)) if name != "allow_http"])
    error_message = "No user or password inside an address: correct endpoints.${join(", endpoints.", [for name, url in var.endpoints : name if name != "allow_http" && can(regex("@", url))])}, and put the password into a Secret that `secrets` names."
  }
  validation {
    condition     = length(setsubtract(var.endpoints.allow_http, ["blobs", "prefect", "registry", "vectors"])) == 0
    error_message = "endpoints.allow_http holds names out of blobs, prefect, registry, vectors."
  }
  validation {
    condition     = alltrue([for name, url in var.endpoints : can(regex("^https://", url)) || (contains(var.endpoints.allow_http, name) && can(regex("^http://", url))) if name != "allow_http" && url != null])
    error_message = "Begin with \"https://\": endpoints.${join(", endpoints.", [for name, url in var.endpoints : name if name != "allow_http" && url != null && !can(regex("^https://", url)) && !(contains(var.endpoints.allow_http, name) && can(regex("^http://", url)))])}. For \"http://\" inside one cluster, name the entry in endpoints.allow_http."
  }
  validation {
    condition     = alltrue([for name, url in var.endpoints : can(regex("^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$", url)) || can(regex("@", url)) if name != "allow_http" && url != null])
    error_message = "Write addresses as \"https://HOST:PORT/PATH\", without query or fragment: endpoints.${join(", endpoints.", [for name, url in var.endpoints : name if name != "allow_http" && url != null && !can(regex("^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$", url))])}."
  }
}

variable "gateway_autoscaling" {
  description = "Fewest and most gateways, by load. Null: as many as `replicas.gateway` says."
  type = object({
    max = number
    min = optional(number, 2)
  })
  default = null

  validation {
    condition     = var.gateway_autoscaling == null ? true : var.gateway_autoscaling.min >= 1 && var.gateway_autoscaling.max >= var.gateway_autoscaling.min
    error_message = "gateway_autoscaling: `min` is 1 or more, and `max` not below it."
  }
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

  validation {
    condition     = alltrue([for name in keys(coalesce(var.generators, {})) : can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", name))])
    error_message = "A pool's name has at most 30 characters out of a-z, 0-9 and \"-\", beginning with a letter: ${join(", ", [for name in keys(coalesce(var.generators, {})) : name if !can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", name))])}."
  }
  validation {
    condition     = alltrue([for pool in coalesce(var.generators, {}) : try(pool.replicas >= 0, pool.replicas == null) && try(pool.gpus >= 0, pool.gpus == null)])
    error_message = "replicas and gpus of a pool are 0 or more."
  }
  validation {
    condition     = alltrue([for pool in coalesce(var.generators, {}) : can(regex("^[A-Za-z0-9/][A-Za-z0-9._:/-]*$", pool.engine)) && !strcontains(pool.engine, "://")])
    error_message = "A pool's engine is what assistants declare: \"package:smollm2\", \"base:NAME\" or a folder below \"/weights\". An engine at an address needs no pool: name its host in gateway_egress_hosts."
  }
  validation {
    condition     = length(distinct([for pool in coalesce(var.generators, {}) : pool.engine])) == length(coalesce(var.generators, {}))
    error_message = "Two pools serve one engine, and an assistant names only the engine: remove a pool, or give it another engine."
  }
  validation {
    condition     = alltrue([for pool in coalesce(var.generators, {}) : startswith(pool.engine, "/") ? startswith(pool.engine, "/weights/") && pool.weights_claim != null : true])
    error_message = "An engine that is a folder lies below \"/weights/\", on the volume of the pool's weights_claim."
  }
  validation {
    condition     = alltrue([for pool in coalesce(var.generators, {}) : !contains(concat(keys(try(pool.resources.limits, {})), keys(try(pool.resources.requests, {}))), "nvidia.com/gpu")])
    error_message = "Give a pool's GPUs by `gpus`, not in `resources`: the chart then also tolerates the taint of GPU nodes."
  }
  validation {
    condition     = alltrue([for pool in coalesce(var.generators, {}) : pool.tag != "latest" && try(length(regexall(":", basename(pool.repository))) == 0, true)])
    error_message = "A pool's image is a `repository` without version, and a `tag` or a `digest`; \"latest\" is another image tomorrow."
  }
  validation {
    condition     = alltrue([for pool in coalesce(var.generators, {}) : pool.digest == null || can(regex("^sha256:[0-9a-f]{64}$", pool.digest))])
    error_message = "Write a pool's digest as \"sha256:\" and 64 hexadecimal digits."
  }
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

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9._-]+)*$", var.images.registry))
    error_message = "Write images.registry as \"HOST/FOLDER\", for example \"registry.example.org/affinage\": no \"https://\", no version, no \"/\" at the end."
  }
  validation {
    condition     = var.images.tag == null ? true : can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.images.tag)) && var.images.tag != "latest"
    error_message = "Write images.tag as a release, for example \"0.1.0\"; \"latest\" is another image tomorrow."
  }
  validation {
    condition     = alltrue([for component, digest in var.images.digests : contains(["embedder", "gateway", "generator", "worker"], component) && can(regex("^sha256:[0-9a-f]{64}$", digest))])
    error_message = "images.digests holds \"sha256:\" and 64 hexadecimal digits under embedder, gateway, generator or worker."
  }
  validation {
    condition     = var.images.pull_policy == null ? true : contains(["Always", "IfNotPresent", "Never"], var.images.pull_policy)
    error_message = "Write images.pull_policy as \"Always\", \"IfNotPresent\" or \"Never\", or leave it out."
  }
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

  validation {
    condition     = alltrue([for cidr in concat(var.network_policy.client_cidrs, flatten([for server in var.network_policy.servers : server.cidrs])) : can(cidrhost(cidr, 0)) && strcontains(cidr, "/")])
    error_message = "Write ranges as \"10.0.0.0/8\"; a single address as \"10.1.2.3/32\"."
  }
  validation {
    condition     = length(setsubtract(keys(var.network_policy.servers), ["blobs", "database", "prefect", "registry", "vectors"])) == 0
    error_message = "network_policy.servers has the keys blobs, database, prefect, registry and vectors."
  }
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

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.release.name)) && can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.release.namespace))
    error_message = "release.name has at most 20 characters, release.namespace at most 63, out of a-z, 0-9 and \"-\", beginning with a letter."
  }
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

  validation {
    condition     = alltrue([for count in values(var.replicas) : try(count >= 1 && floor(count) == count, count == null)])
    error_message = "replicas are whole numbers, 1 or more."
  }
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

  validation {
    condition     = alltrue([for secret in values(var.secrets) : can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", secret)) if secret != null])
    error_message = "Give the name of a Secret, never what is in it: secrets.${join(", secrets.", [for name, secret in var.secrets : name if secret != null && !can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", secret))])}. Names are made of a-z, 0-9, \"-\" and \".\"."
  }
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

  validation {
    condition     = var.vectors_grpc_port == null ? true : var.vectors_grpc_port >= 1 && var.vectors_grpc_port <= 65535
    error_message = "vectors_grpc_port is a port: 1 to 65535."
  }
}

variable "weights_claim" {
  description = "Claim of the volume that holds the weights of the bases that workers train and judge; they see it at /weights. Null: packaged models only."
  type        = string
  default     = null
}
