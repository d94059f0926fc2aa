output "buckets" {
  description = "Name of the bucket for each purpose."
  value       = module.storage.names
}

output "secrets" {
  description = "ARN of each secret."
  value       = module.secrets.arns
}

output "roles" {
  description = "ARN of the role of each pool's job pods and worker, and of each namespace's secrets."
  value       = { jobs = module.identity.jobs, workers = module.identity.workers, secrets = module.identity.secrets }
}
