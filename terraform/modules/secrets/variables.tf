variable "prefix" {
  description = "What the names of the secrets begin with, such as prefect/production."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9_+=.@-]+(/[a-zA-Z0-9_+=.@-]+)*$", var.prefix))
    error_message = "Secrets Manager refuses the name ${var.prefix}/auth: use letters, digits and _+=.@- between single slashes, with none at the ends."
  }
}

variable "versions" {
  description = "Version of each secret's value: a higher number makes a new value. 0 makes no secret of alerts."
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
    error_message = "A version of a secret is a whole number from 1 on, and the one of alerts from 0 on."
  }
}

variable "database" {
  description = "Where the server's database is, for the URL that the chart reads; the password is generated."
  type = object({
    host = string
    port = optional(number, 5432)
    name = optional(string, "prefect")
    user = optional(string, "prefect")
  })
}

variable "redis" {
  description = "Where the server's Redis is, for the URL that the chart reads; the password is generated. Each environment has a database of its own."
  type = object({
    host     = string
    port     = optional(number, 6379)
    database = optional(number, 0)
    tls      = optional(bool, true)
  })
}

variable "alerts" {
  description = "Webhook URLs and keys of the alert channels by the name that platform.yaml refers to. It never enters the state; give it to each run once versions.alerts is not 0."
  type        = map(string)
  default     = {}
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = (length(var.alerts) > 0) == (var.versions.alerts > 0)
    error_message = "versions.alerts and the variable alerts have to come together: give the channels' URLs and keys, for example by TF_VAR_alerts, and a version from 1 on, or neither."
  }
}

variable "recovery_days" {
  description = "Days in which a deleted secret can be brought back: 0 deletes at once, else 7 to 30."
  type        = number
  default     = 30

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "Secrets Manager keeps deleted secrets for 7 to 30 days, or deletes at once with 0: recovery_days is ${var.recovery_days}."
  }
}
