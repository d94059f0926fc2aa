variable "buckets" {
  description = "Name of the bucket for each purpose: results of runs, artifacts of flows, backups of the database."
  type = object({
    results   = string
    artifacts = string
    backups   = string
  })

  validation {
    condition = alltrue([
      for name in values(var.buckets) : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", name))
    ])
    error_message = "S3 refuses one of the bucket names ${join(", ", values(var.buckets))}: use 3 to 63 lowercase letters, digits and hyphens, with a letter or digit at both ends. Dots are refused too, since TLS certificates do not cover them."
  }

  validation {
    condition = !anytrue([
      for name in values(var.buckets) :
      can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|--x-s3|--table-s3)$", name))
    ])
    error_message = "One of the bucket names ${join(", ", values(var.buckets))} has a beginning or an end that S3 keeps for itself, such as xn-- or -s3alias: choose another."
  }

  validation {
    condition     = length(distinct(values(var.buckets))) == length(values(var.buckets))
    error_message = "Two purposes have one bucket in ${join(", ", values(var.buckets))}: their periods differ, give each its own."
  }
}

variable "retention" {
  description = "Days that objects are kept, by purpose; the output objects of the module retention."
  type = map(object({
    days         = number
    version_days = number
  }))
}

variable "encryption" {
  description = "Whether buckets encrypt by default; false for a server without a key, which would then refuse every object."
  type        = bool
  default     = true
}

variable "public_access_block" {
  description = "Whether the server has S3's public access block; some S3-compatible ones do not."
  type        = bool
  default     = true
}

variable "tls_only" {
  description = "Whether requests without TLS are denied; false for a server that has no TLS."
  type        = bool
  default     = true
}
