variable "object_store" {
  description = "URL of SeaweedFS's S3 interface."
  type        = string
  default     = "http://127.0.0.1:8333"
}

variable "emulator" {
  description = "URL of an emulator of AWS, such as moto's server."
  type        = string
  default     = "http://127.0.0.1:5000"
}

variable "oidc_issuer" {
  description = "URL of an OIDC issuer that the emulator has as an identity provider."
  type        = string
}

variable "secret_versions" {
  description = "Version of each secret's value: a higher number makes a new value."
  type        = map(number)
  default     = {}
}

variable "alerts" {
  description = "Webhook URLs and keys of the alert channels; once secret_versions.alerts is not 0."
  type        = map(string)
  default     = {}
  sensitive   = true
  ephemeral   = true
}
