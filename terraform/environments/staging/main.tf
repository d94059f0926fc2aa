# Staging, production's modules to rehearse on, on AWS. Names of buckets, the account's issuer and the database are examples.

provider "aws" {
  region = "eu-central-1"
}

module "retention" {
  source = "../../modules/retention"
  file   = "${path.module}/../../../k8s/environments/staging/retention.yaml"
}

module "storage" {
  source    = "../../modules/storage/s3"
  retention = module.retention.objects
  buckets = {
    results   = "example-prefect-staging-results"
    artifacts = "example-prefect-staging-artifacts"
    backups   = "example-prefect-staging-backups"
  }
}

module "secrets" {
  source   = "../../modules/secrets"
  prefix   = "prefect/staging"
  versions = { database = 1, auth = 1, encryption = 1, redis = 1, alerts = 0 }
  # Both are the chart's own.
  database = { host = "prefect-server-database" }
  redis    = { host = "prefect-server-redis", tls = false }
  alerts   = var.alerts
  # A rehearsal is made and taken away again under the same names.
  recovery_days = 0
}

module "identity" {
  source      = "../../modules/identity"
  name        = "prefect-staging"
  oidc_issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE2"
  buckets     = module.storage.arns
  # What the pods of each namespace read; k8s/environments/staging/secrets brings it there.
  secrets = {
    prefect         = [for name in ["database", "auth", "encryption", "redis"] : module.secrets.arns[name]]
    prefect-workers = [module.secrets.arns.auth]
    flows-default   = [module.secrets.arns.auth]
  }
  pools = {
    default = {
      namespace = "flows-default"
      worker    = "prefect-worker-default"
      artifacts = ["etl-daily/"]
    }
  }
}
