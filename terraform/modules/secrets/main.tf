# Secrets of the platform in AWS Secrets Manager, with the keys that the charts read. The values are
# ephemeral: they are generated or passed in, then written, and are never in a plan or a state.

# Every plan and apply opens this resource, so the plan fails if the server cannot be reached. A
# generated value is only written if the version of its secret was raised.
ephemeral "aws_secretsmanager_random_password" "this" {
  for_each            = toset(["database", "auth", "encryption", "redis"])
  password_length     = 32
  exclude_punctuation = true # they become parts of URLs and of the API's user:password
}

locals {
  password = { for name, each in ephemeral.aws_secretsmanager_random_password.this : name => each.random_password }
  value = {
    database = {
      password       = local.password.database
      connection-url = "postgresql+asyncpg://${var.database.user}:${local.password.database}@${var.database.host}:${var.database.port}/${var.database.name}"
    }
    auth = { auth-string = "admin:${local.password.auth}" }
    # A Fernet key is the URL-safe base64 of 32 bytes, such as those of 32 letters and digits.
    encryption = { key = replace(replace(base64encode(local.password.encryption), "+", "-"), "/", "_") }
    redis = {
      password = local.password.redis
      url      = "${var.redis.tls ? "rediss" : "redis"}://:${local.password.redis}@${var.redis.host}:${var.redis.port}/${var.redis.database}"
    }
    alerts = var.alerts
  }
  purposes = {
    database   = "Password of Prefect's database, and its URL"
    auth       = "User and password of Prefect's API"
    encryption = "Key of Prefect's encrypted blocks; without it they cannot be read"
    redis      = "Password of Prefect's Redis, and its URL"
    alerts     = "Webhook URLs and keys of the alert channels"
  }
}

resource "aws_secretsmanager_secret" "this" {
  for_each                = { for name, purpose in local.purposes : name => purpose if var.versions[name] > 0 }
  name                    = "${var.prefix}/${each.key}"
  description             = each.value
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each                 = aws_secretsmanager_secret.this
  secret_id                = each.value.arn
  secret_string_wo         = jsonencode(local.value[each.key])
  secret_string_wo_version = var.versions[each.key]
}
