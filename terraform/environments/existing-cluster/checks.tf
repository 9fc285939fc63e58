# Warnings: what works and will surprise. What cannot work is refused where it is declared.

locals {
  _sources = [for source in try(local.declarations.sources, []) : source if try(source.kind, "") == "folder"]
  _engines = concat(["extractive"], var.generators == null ? ["package:smollm2"] : [for pool in var.generators : pool.engine])

  # A reader's `http://` reaches the wire as it is written; only within one cluster is that bearable.
  plain_http        = sort([for name in var.endpoints.allow_http : name if startswith(try(var.endpoints[name], ""), "http://")])
  unmounted_sources = [for source in local._sources : source.name if !startswith("${try(source.path, "")}/", "/srv/documents/")]
  unserved_assistants = [for assistant in try(local.declarations.assistants, []) : assistant.name
  if !contains(local._engines, try(assistant.engine, "extractive")) && !can(regex("^https?://", assistant.engine))]
  without_password = sort([for name, secret in { prefect = var.secrets.prefect, registry = var.secrets.registry, vectors = var.secrets.vectors } :
  name if secret == null])
}

check "addresses_use_tls" {
  assert {
    condition     = length(local.plain_http) == 0
    error_message = "Documents, questions and passwords cross the network readable to ${join(", ", local.plain_http)}. Fine inside one cluster whose network is encrypted; anywhere else use https."
  }
}

check "servers_ask_for_a_password" {
  assert {
    condition     = length(local.without_password) == 0
    error_message = "No Secret for ${join(", ", local.without_password)}: whoever reaches the server reads and writes it. Turn its authentication on and name a Secret in `secrets`."
  }
}

check "blobs_are_reachable" {
  assert {
    condition     = (var.secrets.blobs != null) != (length(var.service_account_annotations) > 0)
    error_message = "Exactly one way to S3: a Secret in secrets.blobs, or a role in service_account_annotations. With both the chart refuses or the Secret wins; with none the pods rely on what the node gives them."
  }
}

check "engines_are_served" {
  assert {
    condition     = length(local.unserved_assistants) == 0
    error_message = "No pool in `generators` has the engine that these assistants declare: ${join(", ", local.unserved_assistants)}."
  }
}

check "images_are_exact" {
  assert {
    condition     = length(var.images.digests) == 4
    error_message = "An image that goes by its version can be replaced under that version. For production give images.digests for embedder, gateway, generator and worker."
  }
}

check "updates_interrupt_nobody" {
  assert {
    condition     = try(var.replicas.gateway >= 2, true) && try(var.gateway_autoscaling.min >= 2, true)
    error_message = "With one gateway, a node that is replaced takes the answers with it: two or more."
  }
}

check "pods_are_closed" {
  assert {
    condition     = var.network_policy.enabled && !contains(var.network_policy.client_cidrs, "0.0.0.0/0")
    error_message = "Network policies are what keeps documents inside: leave network_policy.enabled on, and name client ranges narrower than 0.0.0.0/0."
  }
}

check "folder_sources_are_mounted" {
  assert {
    condition     = length(local.unmounted_sources) == 0 && (length(local._sources) == 0 || var.documents_claim != null)
    error_message = "Workers read folders at /srv/documents, from the volume of documents_claim. Set it, and declare the path of every source below it${length(local.unmounted_sources) == 0 ? "" : ": ${join(", ", local.unmounted_sources)}"}."
  }
}

check "alerts_have_metrics" {
  assert {
    condition     = var.monitoring.service_monitor || !var.monitoring.rules
    error_message = "Rules alone never fire: turn monitoring.service_monitor on too, or collect the metrics otherwise."
  }
}
