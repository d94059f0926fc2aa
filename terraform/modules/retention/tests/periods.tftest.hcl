# Periods come from the environments' own files; what contradicts itself is refused at plan.

run "reads_production" {
  command = plan
  variables {
    file = "../../../k8s/environments/production/retention.yaml"
  }
  assert {
    condition     = output.days == { results = 97, backups = 30 }
    error_message = "the days are not those of production's file"
  }
}

run "refuses_results_that_go_before_their_runs" {
  command = plan
  variables {
    file = "tests/short-results.yaml"
  }
  expect_failures = [output.days]
}

run "refuses_parts_of_a_day" {
  command = plan
  variables {
    file = "tests/hours.yaml"
  }
  expect_failures = [output.days]
}

run "refuses_a_missing_period" {
  command = plan
  variables {
    file = "tests/missing.yaml"
  }
  expect_failures = [output.days]
}
