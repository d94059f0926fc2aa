# Roles that pods assume by their ServiceAccount's token (IRSA): one for the job pods of each pool,
# one for its worker. Each names the actions, the bucket and the prefix that it needs.

# It has to be there, and asking for it makes a plan fail when IAM is away.
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
  # Delete is for results and files that a flow replaces or takes back.
  read_and_write = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
}

resource "aws_iam_role" "this" {
  for_each    = local.roles
  name        = "${var.name}-${each.key}"
  description = "For ${each.value.subject}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = data.aws_iam_openid_connect_provider.cluster.arn }
      Condition = {
        StringEquals = {
          "${local.issuer}:sub" = each.value.subject
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
