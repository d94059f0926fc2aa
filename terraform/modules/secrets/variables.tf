variable "prefix" {
  description = "Prefix of the names of the secrets, such as prefect/production."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9_+=.@-]+(/[a-zA-Z0-9_+=.@-]+)*$", var.prefix))
    error_message = "Secrets Manager refuses the name ${var.prefix}/auth: use letters, digits and _+=.@- between single slashes, with no slash at either end."
  }
}

variable "versions" {
  description = "Version of each secret's value. A higher number creates a new value. If the version of alerts is 0, that secret is not created."
  type = object({
    database   = optional(number, 1)
    auth       = optional(number, 1)
    encryption = optional(number, 1)
    redis      = optional(number, 1)
    alerts     = optional(number, 0)
  })
  default = {}

  validation {
    condition = alltrue([
      for name, version in var.versions : version == floor(version) && version >= (name == "alerts" ? 0 : 1)
    ])
    error_message = "The versions of secrets have to be whole numbers, at least 1, or at least 0 for alerts."
  }
}

variable "database" {
  description = "Address of the server's database, for the URL that the chart reads. The password is generated."
  type = object({
    host = string
    port = optional(number, 5432)
    name = optional(string, "prefect")
    user = optional(string, "prefect")
  })
}

variable "redis" {
  description = "Address of the server's Redis, for the URL that the chart reads. The password is generated. Give each environment a database number of its own."
  type = object({
    host     = string
    port     = optional(number, 6379)
    database = optional(number, 0)
    tls      = optional(bool, true)
  })
}

variable "alerts" {
  description = "Webhook URLs and keys of the alert channels, by the names that platform.yaml refers to. They are never in the state, so pass them to every run if versions.alerts is not 0."
  type        = map(string)
  default     = {}
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = (length(var.alerts) > 0) == (var.versions.alerts > 0)
    error_message = "The variable alerts and versions.alerts have to be set together: set the URLs and keys of the channels, for example with TF_VAR_alerts, and a version of at least 1, or neither."
  }
}

variable "recovery_days" {
  description = "Days for which a deleted secret can be restored: 7 to 30, or 0 to delete it at once."
  type        = number
  default     = 30

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "recovery_days is ${var.recovery_days}, but Secrets Manager keeps deleted secrets for 7 to 30 days, or deletes them at once with 0: set one of these."
  }
}
