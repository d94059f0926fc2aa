variable "file" {
  description = "Path of the environment's retention.yaml."
  type        = string
}
