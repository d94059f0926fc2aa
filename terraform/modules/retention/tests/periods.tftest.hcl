# Periods come from the environments' own files; what contradicts itself is refused at plan.

run "reads_production" {
  command = plan
  variables {
    file = "../../../k8s/environments/production/retention.yaml"
  }
  assert {
    condition = output.objects == {
      results   = { days = 97, version_days = null }
      artifacts = { days = null, version_days = 30 }
      backups   = { days = 30, version_days = 30 }
    }
    error_message = "the days are not those of production's file"
  }
}

run "refuses_results_that_go_before_their_runs" {
  command = plan
  variables {
    file = "tests/short-results.yaml"
  }
  expect_failures = [output.objects]
}

run "refuses_parts_of_a_day" {
  command = plan
  variables {
    file = "tests/hours.yaml"
  }
  expect_failures = [output.objects]
}

run "refuses_a_missing_period" {
  command = plan
  variables {
    file = "tests/missing.yaml"
  }
  expect_failures = [output.objects]
}
