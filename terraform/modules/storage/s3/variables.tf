variable "buckets" {
  description = "Names of the buckets: for the results of runs, the artifacts of flows and the backups of the database."
  type = object({
    results   = string
    artifacts = string
    backups   = string
  })

  validation {
    condition = alltrue([
      for name in values(var.buckets) : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", name))
    ])
    error_message = "S3 refuses one of the bucket names ${join(", ", values(var.buckets))}: use 3 to 63 lowercase letters, digits and hyphens, with a letter or digit at both ends. Dots are refused as well, because TLS certificates do not cover them."
  }

  validation {
    condition = !anytrue([
      for name in values(var.buckets) :
      can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|--x-s3|--table-s3)$", name))
    ])
    error_message = "One of the bucket names ${join(", ", values(var.buckets))} has a prefix or suffix that S3 reserves, such as xn-- or -s3alias: choose another name."
  }

  validation {
    condition     = length(distinct(values(var.buckets))) == length(values(var.buckets))
    error_message = "Two purposes share a bucket in ${join(", ", values(var.buckets))}, although their retention periods differ: give each a bucket of its own."
  }
}

variable "retention" {
  description = "How many days objects are kept, by purpose: the output objects of the module retention."
  type = map(object({
    days         = number
    version_days = number
  }))
}

variable "encryption" {
  description = "Whether buckets encrypt objects by default. Set it to false for a server without an encryption key, which would otherwise refuse every object."
  type        = bool
  default     = true
}

variable "public_access_block" {
  description = "Whether to set S3's public access block. Some S3-compatible servers do not have it."
  type        = bool
  default     = true
}

variable "tls_only" {
  description = "Whether requests without TLS are denied. Set it to false for a server without TLS."
  type        = bool
  default     = true
}
