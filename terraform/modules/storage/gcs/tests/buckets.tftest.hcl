# The shape of what is planned, and the names that are refused; no server is asked.

mock_provider "google" {}

variables {
  location = "EUROPE-WEST3"
  buckets = {
    results   = "example-results"
    artifacts = "example-artifacts"
    backups   = "example-backups"
  }
  retention = {
    results   = { days = 97, version_days = null }
    artifacts = { days = null, version_days = 30 }
    backups   = { days = 30, version_days = 30 }
  }
}

run "each_purpose_has_a_lifecycle_of_its_own" {
  command = plan
  assert {
    condition     = [for rule in google_storage_bucket.this["results"].lifecycle_rule : one(rule.condition).age] == [97, 7]
    error_message = "results are not kept for their period"
  }
  assert {
    condition     = [for rule in google_storage_bucket.this["artifacts"].lifecycle_rule : one(rule.action).type] == ["Delete", "AbortIncompleteMultipartUpload"]
    error_message = "artifacts are data: only their old versions go"
  }
}

run "every_bucket_is_private" {
  command = plan
  assert {
    condition     = alltrue([for each in google_storage_bucket.this : each.public_access_prevention == "enforced" && each.uniform_bucket_level_access])
    error_message = "a bucket is not closed to the public"
  }
}

run "refuses_a_name_of_googles" {
  command = plan
  variables {
    buckets = { results = "googled", artifacts = "example-artifacts", backups = "example-backups" }
  }
  expect_failures = [var.buckets]
}

run "refuses_a_name_with_capitals" {
  command = plan
  variables {
    buckets = { results = "Example", artifacts = "example-artifacts", backups = "example-backups" }
  }
  expect_failures = [var.buckets]
}
