# The shape of what is planned, and what is refused; no server is asked.

mock_provider "aws" {}

variables {
  prefix   = "prefect/example"
  database = { host = "database.example.org" }
  redis    = { host = "redis.example.org" }
}

run "every_value_is_written_at_its_version_and_kept_out_of_the_plan" {
  command = plan
  variables {
    versions = { auth = 3 }
  }
  assert {
    condition     = { for name, each in aws_secretsmanager_secret_version.this : name => each.secret_string_wo_version } == { auth = 3, database = 1, encryption = 1, redis = 1 }
    error_message = "a value is not written when its version rises"
  }
  assert {
    condition     = alltrue([for each in aws_secretsmanager_secret_version.this : each.secret_string_wo == null])
    error_message = "a value is in the plan"
  }
  assert {
    condition     = aws_secretsmanager_secret.this["encryption"].name == "prefect/example/encryption"
    error_message = "a name does not begin with the prefix"
  }
}

run "refuses_a_name_that_secrets_manager_refuses" {
  command = plan
  variables {
    prefix = "prefect/example/"
  }
  expect_failures = [var.prefix]
}

run "refuses_a_recovery_that_secrets_manager_has_not" {
  command = plan
  variables {
    recovery_days = 3
  }
  expect_failures = [var.recovery_days]
}

run "refuses_a_version_below_the_first" {
  command = plan
  variables {
    versions = { auth = 0 }
  }
  expect_failures = [var.versions]
}

run "refuses_a_version_of_alerts_without_their_values" {
  command = plan
  variables {
    versions = { alerts = 1 }
  }
  expect_failures = [var.alerts]
}
