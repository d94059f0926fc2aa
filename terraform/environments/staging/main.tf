# Staging on AWS, with the modules of production, for rehearsals. The names of the buckets and the
# OIDC issuer are examples.

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
  # The database and Redis run in the cluster, as part of the chart.
  database = { host = "prefect-server-database" }
  redis    = { host = "prefect-server-redis", tls = false }
  alerts   = var.alerts
  # Rehearsals create and delete secrets under the same names, so a deletion takes effect at once.
  recovery_days = 0
}

module "identity" {
  source      = "../../modules/identity"
  name        = "prefect-staging"
  oidc_issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE2"
  buckets     = module.storage.arns
  # The secrets that the pods of each namespace read. k8s/environments/staging/secrets copies them
  # into the cluster.
  secrets = {
    prefect = [for name in ["database", "auth", "encryption", "redis"] : module.secrets.arns[name]]
  }
  pools = {
    default = {
      namespace = "flows-default"
      worker    = "prefect-worker-default"
      artifacts = ["etl-daily/"]
    }
  }
}
