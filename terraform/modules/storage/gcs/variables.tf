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
    error_message = "Cloud Storage refuses one of the bucket names ${join(", ", values(var.buckets))}: use 3 to 63 lowercase letters, digits and hyphens, with a letter or digit at both ends. Dots are refused as well: names with dots are reserved for domains."
  }

  validation {
    condition     = !anytrue([for name in values(var.buckets) : can(regex("^goog|google", name))])
    error_message = "One of the bucket names ${join(", ", values(var.buckets))} begins with goog or contains google, which Cloud Storage refuses: choose another name."
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

variable "location" {
  description = "Location of the buckets, such as EUROPE-WEST3."
  type        = string
}
