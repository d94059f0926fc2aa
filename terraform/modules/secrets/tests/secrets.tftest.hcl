# The shape of what is planned, and what is refused; no server is asked.

mock_provider "aws" {}

variables {
  prefix   = "prefect/example"
  database = { host = "database.example.org" }
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
