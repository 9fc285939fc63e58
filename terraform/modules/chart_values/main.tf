# What Terraform knows, in the chart's words. What is null here is left out, so that the chart's default holds.

locals {
  _components = ["embedder", "gateway", "generator", "worker"]

  _images = { for component in local._components : component => { for key, value in {
    repository = "${var.images.registry}/${component}"
    tag        = var.images.tag
    digest     = lookup(var.images.digests, component, null)
    pullPolicy = var.images.pull_policy
  } : key => value if value != null } }

  _pools = { for name, pool in coalesce(var.generators, {}) : name => { for key, value in {
    engine         = pool.engine
    gpus           = pool.gpus
    image          = local._pool_images[name]
    nodeSelector   = pool.node_selector
    replicas       = pool.replicas
    resources      = pool.resources
    startupSeconds = pool.startup_seconds
    weights        = pool.weights_claim == null ? null : { existingClaim = pool.weights_claim }
  } : key => value if value != null } }

  _pool_image_fields = { for name, pool in coalesce(var.generators, {}) : name => { for key, value in {
    repository = pool.repository
    tag        = pool.tag
    digest     = pool.digest
  } : key => value if value != null } }
  _pool_images = { for name, fields in local._pool_image_fields : name => length(fields) > 0 ? fields : null }

  _replicas = { for component, count in var.replicas : component => { for key, value in { replicas = count } : key => value if value != null } }

  # Helm adds these pools to the chart's; a null takes the chart's own away.
  _own_pool = var.generators == null || contains(keys(local._pools), "smollm2") ? {} : { smollm2 = null }

  _clients = concat(
    [for cidr in var.network_policy.client_cidrs : { ipBlock = { cidr = cidr } }],
    [for name in var.network_policy.client_namespaces : { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = name } } }],
  )
  _monitoring = var.network_policy.monitoring_namespaces == null ? null : [
    for name in var.network_policy.monitoring_namespaces : { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = name } } }
  ]
}

locals {
  # The chart's own defaults of these two keys, for those who create the Secrets by hand.
  _secret_contents = {
    blobs    = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    database = [coalesce(var.secret_keys.database, "url")]
    prefect  = ["PREFECT_API_AUTH_STRING"]
    registry = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"]
    vectors  = [coalesce(var.secret_keys.vectors, "api-key")]
  }
  secrets = { for purpose, name in var.secrets : name => local._secret_contents[purpose]... if name != null }
}

locals {
  values = {
    images           = local._images
    packages         = { for key, value in { existingClaim = var.packages_claim } : key => value if value != null }
    imagePullSecrets = [for name in var.images.pull_secrets : { name = name }]

    database = { for key, value in {
      existingSecret = var.secrets.database
      key            = var.secret_keys.database
    } : key => value if value != null }

    registry = { for key, value in {
      url            = var.endpoints.registry
      existingSecret = var.secrets.registry
    } : key => value if value != null }

    vectors = { for key, value in {
      url            = var.endpoints.vectors
      grpcPort       = var.vectors_grpc_port
      existingSecret = var.secrets.vectors
      key            = var.secret_keys.vectors
    } : key => value if value != null }

    blobs = { for key, value in {
      url            = join("/", compact(["s3:/", var.blobs.bucket, var.blobs.folder]))
      endpointUrl    = var.endpoints.blobs
      existingSecret = var.secrets.blobs
    } : key => value if value != null }

    prefect = { for key, value in {
      apiUrl         = var.endpoints.prefect
      existingSecret = var.secrets.prefect
    } : key => value if value != null }

    serviceAccount = { annotations = var.service_account_annotations }

    gateway = merge(
      local._replicas.gateway,
      { for key, value in { egressHosts = var.gateway_egress_hosts } : key => value if length(value) > 0 },
      { for key, value in { autoscaling = var.gateway_autoscaling } : key => {
        enabled                         = true
        minReplicas                     = value.min
        maxReplicas                     = value.max
      } if value != null },
    )
    controller = local._replicas.controller
    embedder   = local._replicas.embedder
    generators = merge(local._pools, local._own_pool)
    worker = merge(
      local._replicas.worker,
      { for key, value in { documents = var.documents_claim, weights = var.weights_claim } : key => { existingClaim = value } if value != null },
    )
    migration    = {}
    declarations = merge(var.declarations, {})

    networkPolicy = { for key, value in {
      enabled    = var.network_policy.enabled
      clients    = local._clients
      monitoring = local._monitoring
      external   = var.network_policy.servers
    } : key => value if value != null }

    monitoring = {
      serviceMonitor = { enabled = var.monitoring.service_monitor, labels = var.monitoring.labels }
      rules          = { enabled = var.monitoring.rules, labels = var.monitoring.labels }
      dashboard      = { enabled = var.monitoring.dashboard }
    }
  }
}
