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
