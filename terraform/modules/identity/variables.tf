variable "name" {
  description = "What the names of the roles begin with."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "The name ${var.name} begins roles of IAM: use at most 31 lowercase letters, digits and hyphens, a letter first."
  }
}

variable "oidc_issuer" {
  description = "URL of the cluster's OIDC issuer, which IAM has as an identity provider."
  type        = string

  validation {
    condition     = startswith(var.oidc_issuer, "https://")
    error_message = "The OIDC issuer ${var.oidc_issuer} is no https URL: aws eks describe-cluster --query cluster.identity.oidc.issuer prints it."
  }
}

variable "buckets" {
  description = "ARNs of the buckets that pods reach; the one of backups is not among them."
  type = object({
    results   = string
    artifacts = string
  })
}

variable "secrets" {
  description = "ARNs of the secrets that External Secrets brings into each namespace, by its ServiceAccount external-secrets there."
  type        = map(list(string))

  validation {
    condition     = alltrue([for namespace in keys(var.secrets) : can(regex("^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$", namespace))])
    error_message = "One of the namespaces ${join(", ", keys(var.secrets))} cannot name a role: use at most 24 lowercase letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for arns in var.secrets : length(arns) > 0])
    error_message = "One of the namespaces ${join(", ", keys(var.secrets))} has no secret: name one, or leave the namespace out."
  }

  validation {
    condition     = alltrue(flatten([for arns in var.secrets : [for arn in arns : can(regex("^arn:[^*?]+$", arn))]]))
    error_message = "One of ${join(", ", flatten(values(var.secrets)))} is no ARN of one secret: a role names each secret that it reads, with no pattern."
  }
}

variable "pools" {
  description = "Work pools by name: where their job pods and their worker run, and which prefixes of the artifacts bucket their flows write."
  type = map(object({
    namespace        = string
    service_account  = optional(string, "flow-run")
    worker           = string
    worker_namespace = optional(string, "prefect-workers")
    artifacts        = optional(set(string), [])
  }))

  validation {
    condition     = alltrue([for pool in keys(var.pools) : can(regex("^[a-z0-9]([a-z0-9-]{0,23}[a-z0-9])?$", pool))])
    error_message = "One of the pools ${join(", ", keys(var.pools))} cannot name a prefix and a role: use at most 25 lowercase letters, digits and hyphens."
  }

  validation {
    condition = alltrue(flatten([
      for pool in var.pools : [for prefix in pool.artifacts : can(regex("^[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*/$", prefix))]
    ]))
    error_message = "One of the prefixes ${join(", ", flatten([for pool in var.pools : tolist(pool.artifacts)]))} is no folder of a bucket: write it like etl-daily/, with a slash at the end and no * in it."
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
    error_message = "Two of the pools ${join(", ", keys(var.pools))} overlap in the artifacts bucket: give each prefixes of its own, none of which begins another."
  }

  validation {
    condition = length(distinct([
      for pool in var.pools : "${pool.namespace}/${pool.service_account}"
    ])) == length(var.pools)
    error_message = "Two of the pools ${join(", ", keys(var.pools))} run as one ServiceAccount, so each would have the other's rights: give each a namespace of its own."
  }
}
