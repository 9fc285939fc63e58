variables {
  blobs = { bucket = "affinage", folder = "prod" }
  endpoints = {
    registry = "https://mlflow.example.org"
    vectors  = "https://weaviate.example.org"
    prefect  = "https://prefect.example.org/api"
  }
  images  = { registry = "registry.example.org/affinage" }
  secrets = { database = "affinage-database" }
}

# Compared as JSON: it has one way to write a map or an object.
run "what_is_left_out_keeps_the_charts_default" {
  assert {
    condition = jsonencode(output.values) == jsonencode({
      images = {
        embedder  = { repository = "registry.example.org/affinage/embedder" }
        gateway   = { repository = "registry.example.org/affinage/gateway" }
        generator = { repository = "registry.example.org/affinage/generator" }
        worker    = { repository = "registry.example.org/affinage/worker" }
      }
      imagePullSecrets = []
      database         = { existingSecret = "affinage-database" }
      registry         = { url = "https://mlflow.example.org" }
      vectors          = { url = "https://weaviate.example.org" }
      blobs            = { url = "s3://affinage/prod" }
      prefect          = { apiUrl = "https://prefect.example.org/api" }
      serviceAccount   = { annotations = {} }
      gateway          = {}
      controller       = {}
      embedder         = {}
      generators       = {}
      worker           = {}
      packages         = {}
      migration        = {}
      declarations     = {}
      networkPolicy    = { enabled = true, clients = [], external = {} }
      monitoring = {
        serviceMonitor = { enabled = false, labels = {} }
        rules          = { enabled = false, labels = {} }
        dashboard      = { enabled = false }
      }
    })
    error_message = "Only what was given stands in the values, under every key of the chart."
  }
  assert {
    condition     = jsonencode(yamldecode(output.values_yaml)) == jsonencode(output.values)
    error_message = "values_yaml says the same."
  }
}

run "everything_given_is_passed_on" {
  variables {
    declarations    = { sources = [{ name = "handbook", kind = "folder", path = "/srv/documents/handbook" }] }
    documents_claim = "documents"
    packages_claim  = "packages"
    weights_claim   = "weights"
    endpoints = {
      registry   = "https://mlflow.example.org"
      vectors    = "http://weaviate.weaviate.svc:8080"
      prefect    = "https://prefect.example.org/api"
      blobs      = "https://s3.example.org"
      allow_http = ["vectors"]
    }
    gateway_autoscaling  = { max = 8 }
    gateway_egress_hosts = ["models.example.org"]
    generators = {
      large = {
        engine        = "base:mistral-small"
        gpus          = 2
        node_selector = { "affinage.io/pool" = "large" }
        tag           = "0.2.0"
        weights_claim = "weights"
      }
    }
    images = {
      registry     = "registry.example.org:5000/affinage"
      tag          = "0.1.0"
      digests      = { gateway = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
      pull_policy  = "Always"
      pull_secrets = ["registry"]
    }
    monitoring = { service_monitor = true, rules = true, labels = { release = "prometheus" } }
    network_policy = {
      client_namespaces     = ["ingress"]
      client_cidrs          = ["10.0.0.0/8"]
      monitoring_namespaces = []
      servers               = { vectors = { ports = [8080, 50051] } }
    }
    replicas                    = { gateway = 3, worker = 2 }
    secret_keys                 = { database = "dsn" }
    secrets                     = { database = "affinage-database", blobs = "affinage-s3", prefect = "prefect-login" }
    service_account_annotations = { "example.org/identity" = "affinage" }
    vectors_grpc_port           = 50052
  }

  assert {
    condition = jsonencode(output.values.images.gateway) == jsonencode({
      repository = "registry.example.org:5000/affinage/gateway", tag = "0.1.0", pullPolicy = "Always"
      digest     = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    })
    error_message = "An image has its folder, release, digest and policy."
  }
  assert {
    condition     = jsonencode(output.values.imagePullSecrets) == jsonencode([{ name = "registry" }])
    error_message = "Secrets of the registry go by their names."
  }
  assert {
    condition     = jsonencode([output.values.database, output.values.vectors, output.values.blobs, output.values.prefect]) == jsonencode([{ existingSecret = "affinage-database", key = "dsn" }, { url = "http://weaviate.weaviate.svc:8080", grpcPort = 50052 }, { url = "s3://affinage/prod", endpointUrl = "https://s3.example.org", existingSecret = "affinage-s3" }, { apiUrl = "https://prefect.example.org/api", existingSecret = "prefect-login" }])
    error_message = "Servers go by their addresses and the names of Secrets."
  }
  assert {
    condition = jsonencode(output.values.generators) == jsonencode({
      large = {
        engine  = "base:mistral-small", gpus = 2, image = { tag = "0.2.0" }
        weights = { existingClaim = "weights" }, nodeSelector = { "affinage.io/pool" = "large" }
      }
      smollm2 = null
    })
    error_message = "The pools are those that were named; a null removes the chart's own."
  }
  assert {
    condition     = jsonencode([output.values.gateway, output.values.worker]) == jsonencode([{ replicas = 3, egressHosts = ["models.example.org"], autoscaling = { enabled = true, minReplicas = 2, maxReplicas = 8 } }, { replicas = 2, documents = { existingClaim = "documents" }, weights = { existingClaim = "weights" } }])
    error_message = "Gateway and worker get what they were given."
  }
  assert {
    condition     = output.values.packages == { existingClaim = "packages" }
    error_message = "Generators and workers find the packages that their images leave out."
  }
  assert {
    condition = jsonencode(output.values.networkPolicy) == jsonencode({
      enabled    = true
      clients    = [{ ipBlock = { cidr = "10.0.0.0/8" } }, { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "ingress" } } }]
      monitoring = []
      external   = { vectors = { cidrs = [], ports = [8080, 50051] } }
    })
    error_message = "Peers are ranges and namespaces."
  }
  assert {
    condition     = output.values.declarations.sources[0].path == "/srv/documents/handbook" && output.values.monitoring.rules.labels.release == "prometheus" && output.values.serviceAccount.annotations["example.org/identity"] == "affinage"
    error_message = "Declarations, labels and annotations are passed on as they are."
  }
}

run "secrets_are_listed_with_what_they_hold" {
  variables {
    release     = { name = "prod", namespace = "ia" }
    secrets     = { database = "affinage", vectors = "affinage", registry = "mlflow" }
    secret_keys = { database = "dsn" }
  }

  assert {
    condition     = jsonencode(output.secrets) == jsonencode({ affinage = ["api-key", "dsn"], mlflow = ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_USERNAME"] })
    error_message = "A Secret that serves two purposes is listed once, with the keys of both."
  }
  assert {
    condition     = output.service_account == "prod-platform" && strcontains(output.install, "helm upgrade --install prod helm/affinage --namespace ia ")
    error_message = "The release's name and namespace are in what is installed."
  }
}

run "no_pool_at_all_removes_the_charts_own" {
  variables {
    generators = {}
  }

  assert {
    condition     = jsonencode(output.values.generators) == jsonencode({ smollm2 = null })
    error_message = "An empty map means no generator."
  }
}

run "an_address_with_a_password_is_refused" {
  command = plan

  variables {
    endpoints = { registry = "https://me:hunter2@mlflow.example.org", vectors = "https://v.example.org", prefect = "https://p.example.org/api" }
  }

  expect_failures = [var.endpoints]
}

run "plain_http_is_refused_unless_it_is_allowed" {
  command = plan

  variables {
    endpoints = { registry = "http://mlflow.mlflow.svc:5000", vectors = "https://v.example.org", prefect = "https://p.example.org/api", allow_http = ["vectors"] }
  }

  expect_failures = [var.endpoints]
}

run "an_address_with_a_query_is_refused" {
  command = plan

  variables {
    endpoints = { registry = "https://mlflow.example.org?token=1", vectors = "https://v.example.org", prefect = "https://p.example.org/api" }
  }

  expect_failures = [var.endpoints]
}

run "allow_http_names_a_server" {
  command = plan

  variables {
    endpoints = { registry = "https://mlflow.example.org", vectors = "https://v.example.org", prefect = "https://p.example.org/api", allow_http = ["mlflow"] }
  }

  expect_failures = [var.endpoints]
}

run "a_folder_is_no_bucket" {
  command = plan

  variables {
    blobs = { bucket = "/var/lib/affinage" }
  }

  expect_failures = [var.blobs]
}

run "latest_is_refused" {
  command = plan

  variables {
    images = { registry = "registry.example.org/affinage", tag = "latest" }
  }

  expect_failures = [var.images]
}

run "a_version_inside_the_registry_is_refused" {
  command = plan

  variables {
    images = { registry = "registry.example.org/affinage:0.1.0" }
  }

  expect_failures = [var.images]
}

run "half_a_digest_is_refused" {
  command = plan

  variables {
    images = { registry = "registry.example.org/affinage", digests = { gateway = "sha256:0123" } }
  }

  expect_failures = [var.images]
}

run "latest_is_refused_for_a_pool_too" {
  command = plan

  variables {
    generators = { large = { engine = "base:large", tag = "latest" } }
  }

  expect_failures = [var.generators]
}

run "an_engine_at_an_address_is_no_pool" {
  command = plan

  variables {
    generators = { far = { engine = "https://models.example.org/v1" } }
  }

  expect_failures = [var.generators]
}

run "two_pools_of_one_engine_are_refused" {
  command = plan

  variables {
    generators = { a = { engine = "base:large" }, b = { engine = "base:large" } }
  }

  expect_failures = [var.generators]
}

run "a_folder_without_a_volume_is_refused" {
  command = plan

  variables {
    generators = { large = { engine = "/weights/large" } }
  }

  expect_failures = [var.generators]
}

run "gpus_are_not_resources" {
  command = plan

  variables {
    generators = { large = { engine = "base:large", resources = { limits = { "nvidia.com/gpu" = "1" } } } }
  }

  expect_failures = [var.generators]
}

run "a_password_in_place_of_a_name_is_refused" {
  command = plan

  variables {
    secrets = { database = "postgresql://me:hunter2@db/affinage" }
  }

  expect_failures = [var.secrets]
}

run "no_replica_is_refused" {
  command = plan

  variables {
    replicas = { gateway = 0 }
  }

  expect_failures = [var.replicas]
}

run "an_address_is_no_range" {
  command = plan

  variables {
    network_policy = { client_cidrs = ["10.0.0.1"] }
  }

  expect_failures = [var.network_policy]
}

run "an_unknown_declaration_is_refused" {
  command = plan

  variables {
    declarations = { asistants = [] }
  }

  expect_failures = [var.declarations]
}
