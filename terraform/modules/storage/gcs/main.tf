# Buckets on Google Cloud Storage, which encrypts all objects and accepts credentials over TLS only.
# A bucket that contains objects is never deleted.

# A plan that only creates resources does not contact the server. With this read, the plan fails if
# the server cannot be reached, before anything is changed.
# tflint-ignore: terraform_unused_declarations
data "google_storage_project_service_account" "reachable" {}

resource "google_storage_bucket" "this" {
  for_each                    = var.buckets
  name                        = each.value
  location                    = var.location
  force_destroy               = false
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # Objects are restored from their versions. Soft delete would keep objects beyond their period.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  versioning {
    enabled = var.retention[each.key].version_days != null
  }

  dynamic "lifecycle_rule" {
    for_each = var.retention[each.key].days[*]
    content {
      condition {
        age        = lifecycle_rule.value
        with_state = "LIVE"
      }
      action {
        type = "Delete"
      }
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.retention[each.key].version_days[*]
    content {
      condition {
        days_since_noncurrent_time = lifecycle_rule.value
        with_state                 = "ARCHIVED"
      }
      action {
        type = "Delete"
      }
    }
  }

  lifecycle_rule {
    # No pod runs long enough to finish an upload after a week.
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}
