# Any conformant cluster with S3 and PostgreSQL: this environment creates nothing. It checks what it is told and writes the
# chart's values.

module "chart_values" {
  source = "../../modules/chart_values"

  blobs                       = var.blobs
  declarations                = local.declarations
  documents_claim             = var.documents_claim
  packages_claim              = var.packages_claim
  weights_claim               = var.weights_claim
  endpoints                   = var.endpoints
  gateway_autoscaling         = var.gateway_autoscaling
  gateway_egress_hosts        = var.gateway_egress_hosts
  generators                  = var.generators
  images                      = var.images
  monitoring                  = var.monitoring
  network_policy              = var.network_policy
  release                     = var.release
  replicas                    = var.replicas
  secret_keys                 = var.secret_keys
  secrets                     = var.secrets
  service_account_annotations = var.service_account_annotations
  vectors_grpc_port           = var.vectors_grpc_port
}

locals {
  declarations = var.declarations_file == null ? null : try(yamldecode(file(var.declarations_file)), null)
}
