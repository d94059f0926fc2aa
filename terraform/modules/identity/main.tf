# Roles that a ServiceAccount assumes with its token (IRSA). Each pool has one role for its job pods
# and one for its worker, which allow only the needed actions below the needed prefixes. Each
# namespace has one role with which External Secrets reads the secrets of its pods and no others.

# The provider has to exist. Reading it also makes the plan fail if IAM cannot be reached.
data "aws_iam_openid_connect_provider" "cluster" {
  url = var.oidc_issuer
}

locals {
  issuer = trimprefix(var.oidc_issuer, "https://")
  roles = merge(
    {
      for name, pool in var.pools : "${name}-jobs" => {
        subject = "system:serviceaccount:${pool.namespace}:${pool.service_account}"
        reach = concat(
          [{ bucket = var.buckets.results, prefix = "${name}/", actions = local.read_and_write }],
          [for prefix in pool.artifacts : { bucket = var.buckets.artifacts, prefix = prefix, actions = local.read_and_write }],
        )
      }
    },
    {
      for name, pool in var.pools : "${name}-worker" => {
        subject = "system:serviceaccount:${pool.worker_namespace}:${pool.worker}"
        reach   = [{ bucket = var.buckets.results, prefix = "${name}/", actions = ["s3:GetObject"] }]
      }
    },
  )
  # Flows delete results and files that they replace or roll back.
  read_and_write = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
  subjects = merge(
    { for name, role in local.roles : name => role.subject },
    { for namespace in keys(var.secrets) : "${namespace}-secrets" => "system:serviceaccount:${namespace}:external-secrets" },
  )
}

resource "aws_iam_role" "this" {
  for_each    = local.subjects
  name        = "${var.name}-${each.key}"
  description = "For ${each.value}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = data.aws_iam_openid_connect_provider.cluster.arn }
      Condition = {
        StringEquals = {
          "${local.issuer}:sub" = each.value
          "${local.issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles
  name     = "buckets"
  role     = aws_iam_role.this[each.key].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        for reached in each.value.reach : {
          Effect   = "Allow"
          Action   = reached.actions
          Resource = "${reached.bucket}/${reached.prefix}*"
        }
      ],
      [
        for reached in each.value.reach : {
          Effect    = "Allow"
          Action    = "s3:ListBucket"
          Resource  = reached.bucket
          Condition = { StringLike = { "s3:prefix" = "${reached.prefix}*" } }
        }
      ],
    )
  })
}

# External Secrets reads values by name and does not list secrets.
resource "aws_iam_role_policy" "secrets" {
  for_each = var.secrets
  name     = "secrets"
  role     = aws_iam_role.this["${each.key}-secrets"].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "secretsmanager:GetSecretValue"
      Resource = each.value
    }]
  })
}
