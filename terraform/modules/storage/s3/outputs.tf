output "names" {
  description = "Name of the bucket for each purpose."
  value       = { for purpose, bucket in aws_s3_bucket.this : purpose => bucket.bucket }
}

output "arns" {
  description = "ARN of the bucket for each purpose."
  value       = { for purpose, bucket in aws_s3_bucket.this : purpose => bucket.arn }
}
