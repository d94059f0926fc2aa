output "arns" {
  description = "ARN of each secret, for the roles that may read it."
  value       = { for name, secret in aws_secretsmanager_secret.this : name => secret.arn }
}
