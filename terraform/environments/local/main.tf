# The modules on one machine, for rehearsals: the buckets are on SeaweedFS, everything else is on an
# emulator of AWS. Both are used without TLS, with the access keys from the environment variables.

provider "aws" {
  region            = "us-east-1"
  s3_use_path_style = true

  endpoints {
    s3             = var.object_store
    iam            = var.emulator
    secretsmanager = var.emulator
    sts            = var.emulator
  }
}

module "retention" {
  source = "../../modules/retention"
  file   = "${path.module}/../../../k8s/environments/local/retention.yaml"
}

module "storage" {
  source              = "../../modules/storage/s3"
  buckets             = { results = "results", artifacts = "artifacts", backups = "backups" }
  retention           = module.retention.objects
  encryption          = false
  public_access_block = false
  tls_only            = false
}

module "secrets" {
  source        = "../../modules/secrets"
  prefix        = "prefect/local"
  versions      = var.secret_versions
  database      = { host = "prefect-server-database" }
  redis         = { host = "prefect-server-redis", tls = false }
  alerts        = var.alerts
  recovery_days = 0
}

module "identity" {
  source      = "../../modules/identity"
  name        = "prefect-local"
  oidc_issuer = var.oidc_issuer
  buckets     = module.storage.arns
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
