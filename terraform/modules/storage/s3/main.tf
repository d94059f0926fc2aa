# Buckets on S3, or on a server with the same API. A bucket that contains objects is never deleted:
# the server refuses to, and force_destroy is not set.

# A plan that only creates resources does not contact the server. With this read, the plan fails if
# the server cannot be reached, before anything is changed.
# tflint-ignore: terraform_unused_declarations
data "aws_canonical_user_id" "reachable" {}

resource "aws_s3_bucket" "this" {
  for_each = var.buckets
  bucket   = each.value
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = { for purpose, each in var.retention : purpose => each if each.version_days != null }
  bucket   = aws_s3_bucket.this[each.key].bucket

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = var.encryption ? aws_s3_bucket.this : {}
  bucket   = each.value.bucket

  rule {
    bucket_key_enabled = false

    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = var.public_access_block ? aws_s3_bucket.this : {}
  bucket                  = each.value.bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "this" {
  for_each = var.tls_only ? aws_s3_bucket.this : {}
  bucket   = each.value.bucket
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [each.value.arn, "${each.value.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  # S3 refuses two concurrent changes of a bucket's access.
  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = var.retention
  bucket   = aws_s3_bucket.this[each.key].bucket

  rule {
    id     = "retention"
    status = "Enabled"
    filter {}

    dynamic "expiration" {
      for_each = each.value.days[*]
      content {
        days = expiration.value
      }
    }

    dynamic "noncurrent_version_expiration" {
      for_each = each.value.version_days[*]
      content {
        noncurrent_days = noncurrent_version_expiration.value
      }
    }

    # No pod runs long enough to finish an upload after a week.
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
