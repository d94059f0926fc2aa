output "buckets" {
  description = "Name of the bucket for each purpose."
  value       = module.storage.names
}

output "secrets" {
  description = "ARN of each secret."
  value       = module.secrets.arns
}

output "roles" {
  description = "ARNs of the roles: of the job pods and the worker of each pool, and of External Secrets in each namespace."
  value       = { jobs = module.identity.jobs, workers = module.identity.workers, secrets = module.identity.secrets }
}
