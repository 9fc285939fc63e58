# A private EKS cluster with PostgreSQL, a bucket and GPU nodes, and the chart's values for it.

locals {
  region = substr(var.availability_zones[0], 0, length(var.availability_zones[0]) - 1)
  folder = "affinage"

  # Passed to every module rather than set as the provider's default tags: those would not reach disks and instances.
  tags = merge(var.tags, { project = "affinage", environment = var.name, managed-by = "terraform" })
}

provider "aws" {
  region = local.region
}

module "network" {
  source             = "../../modules/network"
  name               = var.name
  availability_zones = var.availability_zones
  cidr               = var.cidr
  outbound_internet  = var.outbound_internet
  tags               = local.tags
}

module "cluster" {
  source              = "../../modules/cluster"
  name                = var.name
  admins              = var.admins
  kubernetes_version  = var.kubernetes_version
  nodes               = var.nodes
  public_access_cidrs = var.public_access_cidrs
  subnet_ids          = module.network.private_subnet_ids
  tags                = local.tags
}

module "gpu_nodes" {
  source         = "../../modules/gpu_nodes"
  for_each       = var.gpu_pools
  name           = each.key
  cluster_name   = module.cluster.name
  disk_gib       = each.value.disk_gib
  instance_types = each.value.instance_types
  max            = each.value.max
  min            = each.value.min
  node_role_arn  = module.cluster.node_role_arn
  subnet_ids     = module.network.private_subnet_ids
  tags           = local.tags
}

module "artifact_bucket" {
  source            = "../../modules/artifact_bucket"
  name              = var.bucket_name
  keep_deleted_days = var.keep_deleted_days
  vpc_endpoint_id   = module.network.s3_endpoint_id
  tags              = local.tags
}

module "database" {
  source                    = "../../modules/database"
  name                      = var.name
  allocated_gib             = var.database.allocated_gib
  backup_days               = var.database.backup_days
  client_security_group_ids = { nodes = module.cluster.node_security_group_id }
  deletion_protection       = var.database.deletion_protection
  instance_class            = var.database.instance_class
  major_version             = var.database.major_version
  max_gib                   = var.database.max_gib
  multi_az                  = var.database.multi_az
  subnet_ids                = module.network.private_subnet_ids
  vpc_id                    = module.network.vpc_id
  tags                      = local.tags
}

module "workload_identity" {
  source           = "../../modules/workload_identity"
  name             = "${var.name}-blobs"
  bucket_arn       = module.artifact_bucket.arn
  kms_key_arn      = module.artifact_bucket.kms_key_arn
  namespace        = var.release.namespace
  oidc             = module.cluster.oidc
  prefix           = local.folder
  service_accounts = [module.chart_values.service_account]
  tags             = local.tags
}

module "chart_values" {
  source          = "../../modules/chart_values"
  blobs           = { bucket = module.artifact_bucket.name, folder = local.folder }
  declarations    = var.declarations_file == null ? null : yamldecode(file(var.declarations_file))
  documents_claim = var.documents_claim
  packages_claim  = var.packages_claim
  weights_claim   = var.weights_claim
  endpoints       = var.endpoints
  generators = length(var.gpu_pools) == 0 ? null : { for name, pool in var.gpu_pools : name => {
    engine        = pool.engine
    gpus          = pool.gpus
    node_selector = module.gpu_nodes[name].node_selector
    replicas      = pool.replicas
    resources     = pool.resources
    weights_claim = pool.weights_claim
  } }
  images     = var.images
  monitoring = var.monitoring
  # S3 keeps public addresses even through the endpoint, so blobs stay open at port 443; there is no other way out of the network.
  network_policy              = { servers = { database = { cidrs = [module.network.cidr] } } }
  release                     = var.release
  secrets                     = var.secrets
  service_account_annotations = module.workload_identity.annotations
}

# A rolling update keeps the old pod until the new one is ready, and both need their GPUs.
check "gpu_pools_can_be_updated" {
  assert {
    condition     = alltrue([for pool in var.gpu_pools : pool.max > pool.min])
    error_message = "A pool at its most nodes cannot be updated without a pause: a new pod waits for a GPU that the old one holds. Allow one node more in gpu_pools.*.max, with an autoscaler."
  }
}
