output "install" {
  description = "Command that installs or upgrades the release, at the root of a checkout, once the Secrets exist."
  value       = module.chart_values.install
}

output "secrets" {
  description = "Secrets that must exist in the namespace, with the keys that are read from each."
  value       = module.chart_values.secrets
}

output "service_account" {
  description = "Service account of gateway, controller and workers, for a cloud that gives it a role."
  value       = module.chart_values.service_account
}

output "values" {
  description = "Values of the chart helm/affinage."
  value       = module.chart_values.values
}

output "values_yaml" {
  description = "The same as a file: terraform output -raw values_yaml > values.yaml"
  value       = module.chart_values.values_yaml
}
