# The shape of what is planned, and what is refused; no server is asked.

mock_provider "aws" {
  mock_data "aws_iam_openid_connect_provider" {
    defaults = {
      arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.org/id/EXAMPLE"
    }
  }
}

variables {
  name        = "prefect"
  oidc_issuer = "https://oidc.example.org/id/EXAMPLE"
  buckets     = { results = "arn:aws:s3:::example-results", artifacts = "arn:aws:s3:::example-artifacts" }
  secrets     = { flows-heavy = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:prefect/example/auth-AbCdEf"] }
  pools = {
    default = { namespace = "flows-default", worker = "prefect-worker-default", artifacts = ["etl-daily/"] }
    heavy   = { namespace = "flows-heavy", worker = "prefect-worker-heavy" }
  }
}

run "only_the_pools_own_service_account_assumes_its_role" {
  command = plan
  assert {
    condition = jsondecode(aws_iam_role.this["heavy-jobs"].assume_role_policy).Statement[0].Condition.StringEquals == {
      "oidc.example.org/id/EXAMPLE:sub" = "system:serviceaccount:flows-heavy:flow-run"
      "oidc.example.org/id/EXAMPLE:aud" = "sts.amazonaws.com"
    }
    error_message = "another ServiceAccount may assume the role"
  }
}

run "no_role_reaches_further_than_its_prefixes" {
  command = plan
  assert {
    condition = [for each in jsondecode(aws_iam_role_policy.this["default-jobs"].policy).Statement : each.Resource] == [
      "arn:aws:s3:::example-results/default/*", "arn:aws:s3:::example-artifacts/etl-daily/*",
      "arn:aws:s3:::example-results", "arn:aws:s3:::example-artifacts",
    ]
    error_message = "the role of the job pods reaches other objects"
  }
  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.this["default-worker"].policy).Statement : flatten([each.Action])] == [["s3:GetObject"], ["s3:ListBucket"]]
    error_message = "the role of a worker may write"
  }
}

run "a_namespaces_secrets_are_read_by_its_own_service_account_and_nothing_else_is" {
  command = plan
  assert {
    condition     = jsondecode(aws_iam_role.this["flows-heavy-secrets"].assume_role_policy).Statement[0].Condition.StringEquals["oidc.example.org/id/EXAMPLE:sub"] == "system:serviceaccount:flows-heavy:external-secrets"
    error_message = "another ServiceAccount may assume the role"
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.secrets["flows-heavy"].policy).Statement == [{
      Effect   = "Allow"
      Action   = "secretsmanager:GetSecretValue"
      Resource = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:prefect/example/auth-AbCdEf"]
    }]
    error_message = "the role reads something else"
  }
}

run "refuses_a_namespace_without_a_secret" {
  command = plan
  variables {
    secrets = { flows-heavy = [] }
  }
  expect_failures = [var.secrets]
}

run "refuses_a_pattern_of_secrets" {
  command = plan
  variables {
    secrets = { flows-heavy = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:prefect/example/*"] }
  }
  expect_failures = [var.secrets]
}

run "refuses_a_namespace_that_is_too_long_for_a_role" {
  command = plan
  variables {
    secrets = { flows-of-the-whole-department = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:prefect/example/auth-AbCdEf"] }
  }
  expect_failures = [var.secrets]
}

run "refuses_prefixes_that_overlap" {
  command = plan
  variables {
    pools = {
      default = { namespace = "flows-default", worker = "prefect-worker-default", artifacts = ["etl/"] }
      heavy   = { namespace = "flows-heavy", worker = "prefect-worker-heavy", artifacts = ["etl/heavy/"] }
    }
  }
  expect_failures = [var.pools]
}

run "refuses_a_prefix_that_is_a_pattern" {
  command = plan
  variables {
    pools = { default = { namespace = "flows-default", worker = "prefect-worker-default", artifacts = ["*/"] } }
  }
  expect_failures = [var.pools]
}

run "refuses_two_pools_with_one_service_account" {
  command = plan
  variables {
    pools = {
      default = { namespace = "flows", worker = "prefect-worker-default" }
      heavy   = { namespace = "flows", worker = "prefect-worker-heavy" }
    }
  }
  expect_failures = [var.pools]
}

run "refuses_an_issuer_without_tls" {
  command = plan
  variables {
    oidc_issuer = "http://oidc.example.org"
  }
  expect_failures = [var.oidc_issuer]
}
