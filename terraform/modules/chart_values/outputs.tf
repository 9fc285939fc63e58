output "install" {
  description = "Commands that install the release from a checkout of this repository, once the Secrets exist."
  value       = <<-EOT
    kubectl create namespace ${var.release.namespace}
    kubectl label namespace ${var.release.namespace} pod-security.kubernetes.io/enforce=restricted
    helm upgrade --install ${var.release.name} helm/affinage --namespace ${var.release.namespace} --values values.yaml --wait --rollback-on-failure --timeout 20m
  EOT
}

output "secrets" {
  description = "Secrets that must exist in the namespace, with the keys that are read from each."
  value       = { for name, keys in local.secrets : name => sort(distinct(flatten(keys))) }
}

output "service_account" {
  description = "Service account of gateway, controller and workers, for a cloud's trust."
  value       = "${var.release.name}-platform"
}

output "values" {
  description = "Values of the chart helm/affinage."
  value       = local.values
}

output "values_yaml" {
  description = "The same as a file for `helm upgrade --install --values`."
  value       = yamlencode(local.values)
}
