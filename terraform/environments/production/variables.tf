variable "alerts" {
  description = "Webhook URLs and keys of the alert channels. Required if the version of alerts is not 0."
  type        = map(string)
  default     = {}
  sensitive   = true
  ephemeral   = true
}
