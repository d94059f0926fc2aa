variable "name" {
  description = "Prefix of the names of the roles."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "The name ${var.name} cannot be the prefix of IAM roles: use at most 31 lowercase letters, digits and hyphens, and begin with a letter."
  }
}

variable "oidc_issuer" {
  description = "URL of the cluster's OIDC issuer, which has to be an identity provider in IAM."
  type        = string

  validation {
    condition     = startswith(var.oidc_issuer, "https://")
    error_message = "The OIDC issuer ${var.oidc_issuer} is not an https URL: run aws eks describe-cluster --name CLUSTER --query cluster.identity.oidc.issuer to print it."
  }
}

variable "buckets" {
  description = "ARNs of the buckets that pods may access. The bucket of the backups is not one of them."
  type = object({
    results   = string
    artifacts = string
  })
}

variable "secrets" {
  description = "ARNs of the secrets that External Secrets reads for each namespace, with the ServiceAccount external-secrets in that namespace."
  type        = map(list(string))

  validation {
    condition     = alltrue([for namespace in keys(var.secrets) : can(regex("^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$", namespace))])
    error_message = "One of the namespaces ${join(", ", keys(var.secrets))} cannot be part of the name of a role: use at most 24 lowercase letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for arns in var.secrets : length(arns) > 0])
    error_message = "One of the namespaces ${join(", ", keys(var.secrets))} has no secrets: add one, or leave the namespace out."
  }

  validation {
    condition     = alltrue(flatten([for arns in var.secrets : [for arn in arns : can(regex("^arn:[^*?]+$", arn))]]))
    error_message = "One of ${join(", ", flatten(values(var.secrets)))} is not the ARN of a single secret: list each secret that the role reads, without wildcards."
  }
}

variable "pools" {
  description = "Work pools by name: the namespaces and ServiceAccounts of their job pods and their worker, and the prefixes of the artifacts bucket that their flows write to."
  type = map(object({
    namespace        = string
    service_account  = optional(string, "flow-run")
    worker           = string
    worker_namespace = optional(string, "prefect-workers")
    artifacts        = optional(set(string), [])
  }))

  validation {
    condition     = alltrue([for pool in keys(var.pools) : can(regex("^[a-z0-9]([a-z0-9-]{0,23}[a-z0-9])?$", pool))])
    error_message = "One of the pools ${join(", ", keys(var.pools))} cannot be a prefix and part of the name of a role: use at most 25 lowercase letters, digits and hyphens."
  }

  validation {
    condition = alltrue(flatten([
      for pool in var.pools : [for prefix in pool.artifacts : can(regex("^[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*/$", prefix))]
    ]))
    error_message = "One of the prefixes ${join(", ", flatten([for pool in var.pools : tolist(pool.artifacts)]))} is not a folder of a bucket: write it as in etl-daily/, with a slash at the end and without *."
  }

  validation {
    condition = !anytrue(flatten([
      for name, pool in var.pools : [
        for prefix in pool.artifacts : [
          for other, theirs in var.pools : [
            for shared in theirs.artifacts : startswith(shared, prefix) if other != name
          ]
        ]
      ]
    ]))
    error_message = "Two of the pools ${join(", ", keys(var.pools))} overlap in the artifacts bucket: give each pool prefixes of its own, and do not begin one with another."
  }

  validation {
    condition = length(distinct([
      for pool in var.pools : "${pool.namespace}/${pool.service_account}"
    ])) == length(var.pools)
    error_message = "Two of the pools ${join(", ", keys(var.pools))} use the same ServiceAccount, so each would have the permissions of the other: give each pool a namespace of its own."
  }
}
