# Production on AWS. The names of the buckets, the OIDC issuer and the host names are examples.

provider "aws" {
  region = "eu-central-1"
}

module "retention" {
  source = "../../modules/retention"
  file   = "${path.module}/../../../k8s/environments/production/retention.yaml"
}

module "storage" {
  source    = "../../modules/storage/s3"
  retention = module.retention.objects
  buckets = {
    results   = "example-prefect-results"
    artifacts = "example-prefect-artifacts"
    backups   = "example-prefect-backups"
  }
}

module "secrets" {
  source   = "../../modules/secrets"
  prefix   = "prefect/production"
  versions = { database = 1, auth = 1, encryption = 1, redis = 1, alerts = 0 }
  database = { host = "prefect-production.cluster-example.eu-central-1.rds.amazonaws.com" }
  redis    = { host = "master.prefect-production.example.euc1.cache.amazonaws.com" }
  alerts   = var.alerts
}

module "identity" {
  source      = "../../modules/identity"
  name        = "prefect-production"
  oidc_issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE1"
  buckets     = module.storage.arns
  # The secrets that the pods of each namespace read. k8s/environments/production/secrets copies
  # them into the cluster.
  secrets = {
    prefect = [for name in ["database", "auth", "encryption", "redis"] : module.secrets.arns[name]]
  }
  pools = {
    default = {
      namespace = "flows-default"
      worker    = "prefect-worker-default"
      artifacts = ["etl-daily/"]
    }
    heavy = {
      namespace = "flows-heavy"
      worker    = "prefect-worker-heavy"
    }
  }
}
