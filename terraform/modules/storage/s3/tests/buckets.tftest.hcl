# The shape of what is planned, and the names that are refused; no server is asked.

mock_provider "aws" {}

variables {
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
    condition     = one(aws_s3_bucket_lifecycle_configuration.this["results"].rule[0].expiration).days == 97
    error_message = "results are not kept for their period"
  }
  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this["artifacts"].rule[0].expiration) == 0
    error_message = "artifacts are data: they do not expire"
  }
  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.this["backups"].rule[0].noncurrent_version_expiration).noncurrent_days == 30
    error_message = "versions of backups do not go"
  }
  assert {
    condition = alltrue([
      for each in aws_s3_bucket_lifecycle_configuration.this :
      one(each.rule[0].abort_incomplete_multipart_upload).days_after_initiation == 7
    ])
    error_message = "incomplete uploads stay in a bucket"
  }
}

run "every_bucket_is_encrypted_and_private" {
  command = plan
  assert {
    condition = alltrue([
      for each in aws_s3_bucket_public_access_block.this :
      each.block_public_acls && each.block_public_policy && each.ignore_public_acls && each.restrict_public_buckets
    ])
    error_message = "a bucket is not closed to the public"
  }
  assert {
    condition     = alltrue([for each in [aws_s3_bucket_public_access_block.this, aws_s3_bucket_server_side_encryption_configuration.this, aws_s3_bucket_policy.this] : length(each) == 3])
    error_message = "a bucket lacks its access block, its encryption or its policy"
  }
  assert {
    condition     = keys(aws_s3_bucket_versioning.this) == ["artifacts", "backups"]
    error_message = "results have one version, the others keep theirs"
  }
}

run "a_server_without_keys_tls_and_access_block_gets_none" {
  command = plan
  variables {
    encryption          = false
    public_access_block = false
    tls_only            = false
  }
  assert {
    condition     = alltrue([for each in [aws_s3_bucket_public_access_block.this, aws_s3_bucket_server_side_encryption_configuration.this, aws_s3_bucket_policy.this] : length(each) == 0])
    error_message = "it is sent a call that it does not know"
  }
}

run "refuses_a_name_with_capitals" {
  command = plan
  variables {
    buckets = { results = "Example", artifacts = "example-artifacts", backups = "example-backups" }
  }
  expect_failures = [var.buckets]
}

run "refuses_a_name_that_s3_keeps_for_itself" {
  command = plan
  variables {
    buckets = { results = "example-s3alias", artifacts = "example-artifacts", backups = "example-backups" }
  }
  expect_failures = [var.buckets]
}

run "refuses_one_bucket_for_two_purposes" {
  command = plan
  variables {
    buckets = { results = "example", artifacts = "example", backups = "example-backups" }
  }
  expect_failures = [var.buckets]
}
