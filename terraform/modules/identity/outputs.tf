output "jobs" {
  description = "ARN of the role of each pool's job pods, for jobs.serviceAccountAnnotations."
  value       = { for name in keys(var.pools) : name => aws_iam_role.this["${name}-jobs"].arn }
}

output "workers" {
  description = "ARN of the role of each pool's worker, for worker.serviceAccountAnnotations."
  value       = { for name in keys(var.pools) : name => aws_iam_role.this["${name}-worker"].arn }
}

output "secrets" {
  description = "ARN of the role of External Secrets in each namespace, for the annotation of its ServiceAccount."
  value       = { for namespace in keys(var.secrets) : namespace => aws_iam_role.this["${namespace}-secrets"].arn }
}
