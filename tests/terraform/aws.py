"""The AWS resources of the stand-in provider: those that our modules use, based on boto3.

The names of attributes and blocks are those of the real provider 6.25;
`docs/operations/terraform.md` explains how they were compared.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from tests.terraform.schema import (
    Attribute,
    Block,
    Provider,
    RefusalError,
    Resource,
    Source,
    Values,
)

_REQUIRED, _OPTIONAL = Attribute(required=True), Attribute()
_FIXED, _COMPUTED = Attribute(required=True, replaces=True), Attribute(computed=True)
_YES_OR_NO, _COUNT = Attribute('"bool"'), Attribute('"number"')

Service = Any  # boto3 makes the classes of its clients at run time
Client = Callable[[str], Service]


@contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        raise RefusalError(what, str(error)) from error


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _found(call: Callable[..., Values], *absent: str, **arguments: str) -> Values | None:
    """Return the response of `call`, or None if its error code is one of `absent`."""
    with _doing(f"reading {arguments}"):
        try:
            return call(**arguments)
        except botocore.exceptions.ClientError as error:
            if _code(error) in absent:
                return None
            raise


def _connect(config: Values) -> Client:
    endpoints = {
        service: address
        for block in config["endpoints"]
        for service, address in block.items()
        if address
    }
    session = boto3.Session(region_name=config["region"])
    if not session.get_credentials():
        raise RefusalError(
            "No valid credential sources found", "set AWS_ACCESS_KEY_ID, or a profile"
        )
    style = {"addressing_style": "path" if config["s3_use_path_style"] else "auto"}
    # An error comes within seconds, even if nothing listens on the address.
    settings = botocore.config.Config(
        s3=style, connect_timeout=5, retries={"total_max_attempts": 2}
    )

    @cache
    def client(service: str) -> Service:
        return session.client(service, endpoint_url=endpoints.get(service), config=settings)

    with _doing("validating provider credentials"):
        client("sts").get_caller_identity()
    return client


# Buckets


def _write_bucket(client: Client, wanted: Values, prior: Values | None) -> Values:
    if prior is None:
        s3 = client("s3")
        region = s3.meta.region_name
        where = (
            {}
            if region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        with _doing(f"creating S3 Bucket ({wanted['bucket']})"):
            s3.create_bucket(Bucket=wanted["bucket"], **where)
    return {"arn": f"arn:aws:s3:::{wanted['bucket']}"}


def _read_bucket(client: Client, state: Values) -> Values | None:
    return None if _found(client("s3").head_bucket, "404", Bucket=state["bucket"]) is None else {}


def _delete_bucket(client: Client, state: Values) -> None:
    with _doing(f"deleting S3 Bucket ({state['bucket']})"):
        client("s3").delete_bucket(Bucket=state["bucket"])


def _write_versioning(client: Client, wanted: Values, _: Values | None) -> Values:
    (status,) = wanted["versioning_configuration"]
    with _doing(f"versioning S3 Bucket ({wanted['bucket']})"):
        client("s3").put_bucket_versioning(
            Bucket=wanted["bucket"], VersioningConfiguration={"Status": status["status"]}
        )
    return {}


def _read_versioning(client: Client, state: Values) -> Values | None:
    found = _found(client("s3").get_bucket_versioning, "NoSuchBucket", Bucket=state["bucket"])
    status = (found or {}).get("Status")
    return {"versioning_configuration": [{"status": status}]} if status else None


def _suspend_versioning(client: Client, state: Values) -> None:
    with _doing(f"suspending versioning of S3 Bucket ({state['bucket']})"):
        client("s3").put_bucket_versioning(
            Bucket=state["bucket"], VersioningConfiguration={"Status": "Suspended"}
        )


def _write_encryption(client: Client, wanted: Values, _: Values | None) -> Values:
    (rule,) = wanted["rule"]
    (default,) = rule["apply_server_side_encryption_by_default"]
    by_default = {"SSEAlgorithm": default["sse_algorithm"]}
    if default["kms_master_key_id"]:
        by_default["KMSMasterKeyID"] = default["kms_master_key_id"]
    with _doing(f"encrypting S3 Bucket ({wanted['bucket']})"):
        client("s3").put_bucket_encryption(
            Bucket=wanted["bucket"],
            ServerSideEncryptionConfiguration={
                "Rules": [
                    {
                        "ApplyServerSideEncryptionByDefault": by_default,
                        "BucketKeyEnabled": bool(rule["bucket_key_enabled"]),
                    }
                ]
            },
        )
    return {}


def _read_encryption(client: Client, state: Values) -> Values | None:
    found = _found(
        client("s3").get_bucket_encryption,
        "NoSuchBucket",
        "ServerSideEncryptionConfigurationNotFoundError",
        Bucket=state["bucket"],
    )
    if found is None:
        return None
    (rule,) = found["ServerSideEncryptionConfiguration"]["Rules"]
    default = rule["ApplyServerSideEncryptionByDefault"]
    return {
        "rule": [
            {
                "bucket_key_enabled": rule.get("BucketKeyEnabled", False),
                "apply_server_side_encryption_by_default": [
                    {
                        "sse_algorithm": default["SSEAlgorithm"],
                        "kms_master_key_id": default.get("KMSMasterKeyID"),
                    }
                ],
            }
        ]
    }


def _delete_encryption(client: Client, state: Values) -> None:
    with _doing(f"no longer encrypting S3 Bucket ({state['bucket']})"):
        client("s3").delete_bucket_encryption(Bucket=state["bucket"])


_PUBLIC_ACCESS = {
    "block_public_acls": "BlockPublicAcls",
    "block_public_policy": "BlockPublicPolicy",
    "ignore_public_acls": "IgnorePublicAcls",
    "restrict_public_buckets": "RestrictPublicBuckets",
}


def _write_public_access(client: Client, wanted: Values, _: Values | None) -> Values:
    with _doing(f"blocking public access to S3 Bucket ({wanted['bucket']})"):
        client("s3").put_public_access_block(
            Bucket=wanted["bucket"],
            PublicAccessBlockConfiguration={
                theirs: bool(wanted[ours]) for ours, theirs in _PUBLIC_ACCESS.items()
            },
        )
    return {}


def _read_public_access(client: Client, state: Values) -> Values | None:
    found = _found(
        client("s3").get_public_access_block,
        "NoSuchBucket",
        "NoSuchPublicAccessBlockConfiguration",
        Bucket=state["bucket"],
    )
    if found is None:
        return None
    blocked = found["PublicAccessBlockConfiguration"]
    return {ours: blocked[theirs] for ours, theirs in _PUBLIC_ACCESS.items()}


def _delete_public_access(client: Client, state: Values) -> None:
    with _doing(f"no longer blocking public access to S3 Bucket ({state['bucket']})"):
        client("s3").delete_public_access_block(Bucket=state["bucket"])


def _same_json(stored: str, now: str) -> str:
    """Return `stored` if `now` is the same JSON in another format."""
    return stored if json.loads(stored) == json.loads(now) else now


def _write_policy(client: Client, wanted: Values, _: Values | None) -> Values:
    with _doing(f"putting the policy of S3 Bucket ({wanted['bucket']})"):
        client("s3").put_bucket_policy(Bucket=wanted["bucket"], Policy=wanted["policy"])
    return {}


def _read_policy(client: Client, state: Values) -> Values | None:
    found = _found(
        client("s3").get_bucket_policy,
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        Bucket=state["bucket"],
    )
    return None if found is None else {"policy": _same_json(state["policy"], found["Policy"])}


def _delete_policy(client: Client, state: Values) -> None:
    with _doing(f"deleting the policy of S3 Bucket ({state['bucket']})"):
        client("s3").delete_bucket_policy(Bucket=state["bucket"])


# The blocks of a lifecycle rule, the number that each contains, and S3's names for both.
_PERIODS = {
    "expiration": ("days", "Expiration", "Days"),
    "noncurrent_version_expiration": (
        "noncurrent_days",
        "NoncurrentVersionExpiration",
        "NoncurrentDays",
    ),
    "abort_incomplete_multipart_upload": (
        "days_after_initiation",
        "AbortIncompleteMultipartUpload",
        "DaysAfterInitiation",
    ),
}


def _write_lifecycle(client: Client, wanted: Values, _: Values | None) -> Values:
    rules = []
    for rule in wanted["rule"]:
        sent = {"ID": rule["id"], "Status": rule["status"], "Filter": {"Prefix": ""}}
        for ours, (number, theirs, their_number) in _PERIODS.items():
            for block in rule[ours]:
                sent[theirs] = {their_number: block[number]}
        rules.append(sent)
    with _doing(f"creating the lifecycle of S3 Bucket ({wanted['bucket']})"):
        client("s3").put_bucket_lifecycle_configuration(
            Bucket=wanted["bucket"], LifecycleConfiguration={"Rules": rules}
        )
    return {}


def _read_lifecycle(client: Client, state: Values) -> Values | None:
    found = _found(
        client("s3").get_bucket_lifecycle_configuration,
        "NoSuchBucket",
        "NoSuchLifecycleConfiguration",
        Bucket=state["bucket"],
    )
    if found is None:
        return None
    return {
        "rule": [
            {
                "id": rule["ID"],
                "status": rule["Status"],
                "filter": [{}],
                **{
                    ours: [{number: rule[theirs][their_number]}] if theirs in rule else []
                    for ours, (number, theirs, their_number) in _PERIODS.items()
                },
            }
            for rule in found["Rules"]
        ]
    }


def _delete_lifecycle(client: Client, state: Values) -> None:
    with _doing(f"deleting the lifecycle of S3 Bucket ({state['bucket']})"):
        client("s3").delete_bucket_lifecycle(Bucket=state["bucket"])


def _look_up_owner(client: Client, _: Values) -> Values:
    with _doing("listing S3 Buckets"):
        return {"id": client("s3").list_buckets()["Owner"]["ID"]}


_BUCKETS = {
    "aws_s3_bucket": Resource(
        Block({"bucket": _FIXED, "arn": _COMPUTED}), _write_bucket, _read_bucket, _delete_bucket
    ),
    "aws_s3_bucket_versioning": Resource(
        Block(
            {"bucket": _FIXED},
            {"versioning_configuration": Block({"status": _REQUIRED}, least=1, most=1)},
        ),
        _write_versioning,
        _read_versioning,
        _suspend_versioning,
    ),
    "aws_s3_bucket_server_side_encryption_configuration": Resource(
        Block(
            {"bucket": _FIXED},
            {
                "rule": Block(
                    {"bucket_key_enabled": _YES_OR_NO},
                    {
                        "apply_server_side_encryption_by_default": Block(
                            {"sse_algorithm": _REQUIRED, "kms_master_key_id": _OPTIONAL}, most=1
                        )
                    },
                    least=1,
                    is_set=True,
                )
            },
        ),
        _write_encryption,
        _read_encryption,
        _delete_encryption,
    ),
    "aws_s3_bucket_public_access_block": Resource(
        Block({"bucket": _FIXED, **dict.fromkeys(_PUBLIC_ACCESS, _YES_OR_NO)}),
        _write_public_access,
        _read_public_access,
        _delete_public_access,
    ),
    "aws_s3_bucket_policy": Resource(
        Block({"bucket": _FIXED, "policy": _REQUIRED}), _write_policy, _read_policy, _delete_policy
    ),
    "aws_s3_bucket_lifecycle_configuration": Resource(
        Block(
            {"bucket": _FIXED},
            {
                "rule": Block(
                    {"id": _REQUIRED, "status": _REQUIRED},
                    {
                        "filter": Block(),
                        **{
                            name: Block({number: _COUNT}) for name, (number, *_) in _PERIODS.items()
                        },
                    },
                )
            },
        ),
        _write_lifecycle,
        _read_lifecycle,
        _delete_lifecycle,
    ),
}


# Secrets


def _write_secret(client: Client, wanted: Values, prior: Values | None) -> Values:
    manager = client("secretsmanager")
    with _doing(f"writing Secrets Manager Secret ({wanted['name']})"):
        if prior:
            manager.update_secret(SecretId=prior["arn"], Description=wanted["description"])
            return {}
        made = manager.create_secret(Name=wanted["name"], Description=wanted["description"])
    return {"arn": made["ARN"]}


def _read_secret(client: Client, state: Values) -> Values | None:
    found = _found(
        client("secretsmanager").describe_secret,
        "ResourceNotFoundException",
        SecretId=state["arn"],
    )
    if found is None or "DeletedDate" in found:
        return None
    return {"name": found["Name"], "description": found["Description"]}


def _delete_secret(client: Client, state: Values) -> None:
    days = int(state["recovery_window_in_days"])
    how = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
    with _doing(f"deleting Secrets Manager Secret ({state['name']})"):
        client("secretsmanager").delete_secret(SecretId=state["arn"], **how)


def _write_secret_version(client: Client, wanted: Values, _: Values | None) -> Values:
    with _doing(f"putting Secrets Manager Secret Value ({wanted['secret_id']})"):
        client("secretsmanager").put_secret_value(
            SecretId=wanted["secret_id"], SecretString=wanted["secret_string_wo"]
        )
    return {}


def _read_secret_version(client: Client, state: Values) -> Values | None:
    found = _found(
        client("secretsmanager").describe_secret,
        "ResourceNotFoundException",
        SecretId=state["secret_id"],
    )
    return {} if found and found.get("VersionIdsToStages") else None


def _keep(_: Client, __: Values) -> None:
    """Keep the version: it is deleted together with its secret."""


def _generate_password(client: Client, config: Values) -> Values:
    with _doing("generating a password"):
        made = client("secretsmanager").get_random_password(
            PasswordLength=int(config["password_length"]),
            ExcludePunctuation=config["exclude_punctuation"],
        )
    return {"random_password": made["RandomPassword"]}


_SECRETS = {
    "aws_secretsmanager_secret": Resource(
        Block(
            {
                "name": _FIXED,
                "description": _OPTIONAL,
                "recovery_window_in_days": _COUNT,
                "arn": _COMPUTED,
            }
        ),
        _write_secret,
        _read_secret,
        _delete_secret,
    ),
    "aws_secretsmanager_secret_version": Resource(
        Block(
            {
                "secret_id": _FIXED,
                "secret_string_wo": Attribute(write_only=True, sensitive=True),
                "secret_string_wo_version": _COUNT,
            }
        ),
        _write_secret_version,
        _read_secret_version,
        _keep,
    ),
}


# Identities


def _write_role(client: Client, wanted: Values, prior: Values | None) -> Values:
    iam = client("iam")
    with _doing(f"writing IAM Role ({wanted['name']})"):
        if prior:
            iam.update_role(RoleName=wanted["name"], Description=wanted["description"])
            iam.update_assume_role_policy(
                RoleName=wanted["name"], PolicyDocument=wanted["assume_role_policy"]
            )
            return {}
        made = iam.create_role(
            RoleName=wanted["name"],
            Description=wanted["description"],
            AssumeRolePolicyDocument=wanted["assume_role_policy"],
        )
    return {"arn": made["Role"]["Arn"]}


def _read_role(client: Client, state: Values) -> Values | None:
    found = _found(client("iam").get_role, "NoSuchEntity", RoleName=state["name"])
    if found is None:
        return None
    trust = json.dumps(found["Role"]["AssumeRolePolicyDocument"])
    return {
        "description": found["Role"]["Description"],
        "assume_role_policy": _same_json(state["assume_role_policy"], trust),
    }


def _delete_role(client: Client, state: Values) -> None:
    with _doing(f"deleting IAM Role ({state['name']})"):
        client("iam").delete_role(RoleName=state["name"])


def _write_role_policy(client: Client, wanted: Values, _: Values | None) -> Values:
    with _doing(f"putting IAM Role Policy ({wanted['role']}:{wanted['name']})"):
        client("iam").put_role_policy(
            RoleName=wanted["role"], PolicyName=wanted["name"], PolicyDocument=wanted["policy"]
        )
    return {}


def _read_role_policy(client: Client, state: Values) -> Values | None:
    found = _found(
        client("iam").get_role_policy,
        "NoSuchEntity",
        RoleName=state["role"],
        PolicyName=state["name"],
    )
    if found is None:
        return None
    return {"policy": _same_json(state["policy"], json.dumps(found["PolicyDocument"]))}


def _delete_role_policy(client: Client, state: Values) -> None:
    with _doing(f"deleting IAM Role Policy ({state['role']}:{state['name']})"):
        client("iam").delete_role_policy(RoleName=state["role"], PolicyName=state["name"])


def _look_up_issuer(client: Client, config: Values) -> Values:
    host = config["url"].removeprefix("https://")
    with _doing("listing IAM OpenID Connect Providers"):
        listed = client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    for each in listed:
        if each["Arn"].endswith(f":oidc-provider/{host}"):
            return {"arn": each["Arn"]}
    raise RefusalError(f"finding IAM OIDC Provider by url ({config['url']})", "not found")


_IDENTITIES = {
    "aws_iam_role": Resource(
        Block(
            {
                "name": _FIXED,
                "description": _OPTIONAL,
                "assume_role_policy": _REQUIRED,
                "arn": _COMPUTED,
            }
        ),
        _write_role,
        _read_role,
        _delete_role,
    ),
    "aws_iam_role_policy": Resource(
        Block({"name": _FIXED, "role": _FIXED, "policy": _REQUIRED}),
        _write_role_policy,
        _read_role_policy,
        _delete_role_policy,
    ),
}


AWS = Provider(
    Block(
        {
            "region": _OPTIONAL,
            "s3_use_path_style": _YES_OR_NO,
        },
        {
            "endpoints": Block(
                dict.fromkeys(("s3", "iam", "secretsmanager", "sts"), _OPTIONAL), is_set=True
            )
        },
    ),
    _connect,
    resources={**_BUCKETS, **_SECRETS, **_IDENTITIES},
    data_sources={
        "aws_canonical_user_id": Source(Block({"id": _COMPUTED}), _look_up_owner),
        "aws_iam_openid_connect_provider": Source(
            Block({"url": _REQUIRED, "arn": _COMPUTED}), _look_up_issuer
        ),
    },
    ephemeral_resources={
        "aws_secretsmanager_random_password": Source(
            Block(
                {
                    "password_length": _COUNT,
                    "exclude_punctuation": _YES_OR_NO,
                    "random_password": _COMPUTED,
                }
            ),
            _generate_password,
        )
    },
)
