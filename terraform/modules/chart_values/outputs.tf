output "install" {
  description = "Command that installs or upgrades the release, at the root of a checkout, once the Secrets exist."
  value       = "helm upgrade --install ${var.release.name} helm/affinage --namespace ${var.release.namespace} --values values.yaml --wait --rollback-on-failure --timeout 20m"
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
