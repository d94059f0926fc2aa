output "names" {
  description = "Name of the bucket for each purpose."
  value       = { for purpose, bucket in google_storage_bucket.this : purpose => bucket.name }
}
