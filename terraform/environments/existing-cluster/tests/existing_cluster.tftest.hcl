# A complete installation: nothing is warned of.
variables {
  blobs = { bucket = "affinage", folder = "prod" }
  endpoints = {
    blobs    = "https://s3.example.org"
    registry = "https://mlflow.example.org"
    vectors  = "https://weaviate.example.org"
    prefect  = "https://prefect.example.org/api"
  }
  images = {
    registry = "registry.example.org/affinage"
    digests = {
      embedder  = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      gateway   = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      generator = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      worker    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
  }
  secrets = { database = "affinage-database", blobs = "affinage-s3", registry = "mlflow", vectors = "weaviate", prefect = "prefect" }
}

run "a_complete_installation_raises_no_warning" {
  assert {
    condition     = output.values.database.existingSecret == "affinage-database" && output.values.blobs.endpointUrl == "https://s3.example.org"
    error_message = "What is given reaches the chart's values."
  }
  assert {
    condition     = keys(output.secrets) == ["affinage-database", "affinage-s3", "mlflow", "prefect", "weaviate"]
    error_message = "Every Secret that must exist is listed."
  }
}

run "declarations_are_read_from_a_file" {
  variables {
    declarations_file = "tests/declarations.yaml"
    documents_claim   = "documents"
  }

  assert {
    condition     = output.values.declarations.sources[0].name == "handbook" && output.values.worker.documents.existingClaim == "documents"
    error_message = "The file is part of the values."
  }
}

run "folder_sources_without_a_volume_are_warned_of" {
  command = plan

  variables {
    declarations_file = "tests/declarations.yaml"
  }

  expect_failures = [check.folder_sources_are_mounted]
}

run "an_assistant_whose_engine_nobody_serves_is_warned_of" {
  command = plan

  variables {
    declarations_file = "tests/declarations.yaml"
    documents_claim   = "documents"
    generators        = { large = { engine = "base:mistral-small" } }
  }

  expect_failures = [check.engines_are_served]
}

run "a_missing_file_is_refused" {
  command = plan

  variables {
    declarations_file = "tests/nowhere.yaml"
  }

  expect_failures = [var.declarations_file]
}

run "plain_http_is_warned_of" {
  command = plan

  variables {
    endpoints = { registry = "http://mlflow.mlflow.svc:5000", vectors = "https://v.example.org", prefect = "https://p.example.org/api", allow_http = ["registry"] }
  }

  expect_failures = [check.addresses_use_tls]
}

run "what_is_weak_is_warned_of" {
  command = plan

  variables {
    images         = { registry = "registry.example.org/affinage", tag = "0.1.0" }
    monitoring     = { rules = true }
    network_policy = { enabled = false }
    replicas       = { gateway = 1 }
    secrets        = { database = "affinage-database" }
  }

  expect_failures = [
    check.alerts_have_metrics,
    check.blobs_are_reachable,
    check.images_are_exact,
    check.pods_are_closed,
    check.servers_ask_for_a_password,
    check.updates_interrupt_nobody,
  ]
}

run "two_ways_to_s3_are_warned_of" {
  command = plan

  variables {
    service_account_annotations = { "example.org/role" = "affinage" }
  }

  expect_failures = [check.blobs_are_reachable]
}
