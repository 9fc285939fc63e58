output "node_selector" {
  description = "What a pod asks for to run on this pool."
  value       = { (local.label) = var.name }
}
