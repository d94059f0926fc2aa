variable "object_store" {
  description = "URL of the S3 API of SeaweedFS."
  type        = string
  default     = "http://127.0.0.1:8333"
}

variable "emulator" {
  description = "URL of an AWS emulator, such as moto's server."
  type        = string
  default     = "http://127.0.0.1:5000"
}

variable "oidc_issuer" {
  description = "URL of an OIDC issuer that is an identity provider in the emulator."
  type        = string
}

variable "secret_versions" {
  description = "Version of each secret's value. A higher number creates a new value."
  type        = map(number)
  default     = {}
}

variable "alerts" {
  description = "Webhook URLs and keys of the alert channels. Required if secret_versions.alerts is not 0."
  type        = map(string)
  default     = {}
  sensitive   = true
  ephemeral   = true
}
