output "database" {
  description = "Where PostgreSQL is, and where Secrets Manager keeps its administrator's password."
  value = {
    administrator_secret_arn = module.database.administrator_secret_arn
    host                     = module.database.host
    name                     = module.database.name
    port                     = module.database.port
  }
}

output "install" {
  description = "Command that installs or upgrades the release, at the root of a checkout, once the Secrets exist."
  value       = module.chart_values.install
}

output "kubeconfig" {
  description = "Command that lets kubectl enter, for those named in `admins`."
  value       = "aws eks update-kubeconfig --region ${local.region} --name ${module.cluster.name}"
}

output "secrets" {
  description = "Secrets that must exist in the namespace, with the keys that are read from each."
  value       = module.chart_values.secrets
}

output "values" {
  description = "Values of the chart helm/affinage."
  value       = module.chart_values.values
}

output "values_yaml" {
  description = "The same as a file: terraform output -raw values_yaml > values.yaml"
  value       = module.chart_values.values_yaml
}
