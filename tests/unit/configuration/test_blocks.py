"""Blocks in a file: complete bodies, problems with their lines, and secrets that stay hidden."""

import json
import traceback
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from prefect.blocks.core import Block
from prefect.utilities import dispatch

from prefect_platform.configuration.blocks.block_schemas import json_schema
from prefect_platform.configuration.blocks.block_types import installed
from prefect_platform.configuration.blocks.blocks import Blocks
from prefect_platform.configuration.core.context import Context, Mounted, Offline
from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.secret_values import SecretValue, reveal, secret_steps
from prefect_platform.configuration.core.source import ConfigurationError, read
from tests.support.strategies_blocks import Section, sections

SESAME = "open-sesame"
PASSWORD = "{secret: {name: held, key: password}}"

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    held = tmp_path / "secrets" / "held"
    held.mkdir(parents=True)
    for key, value in {
        "password": SESAME + "\n",
        "two-lines": f"{SESAME}\n\n",
        "windows": f"{SESAME}\r\n",
        "json": json.dumps({"Authorization": SESAME}),
        "obfuscated": "********",
        "port": "5433",
    }.items():
        (held / key).write_bytes(value.encode())
    (held / "binary").write_bytes(b"\xff" + SESAME.encode())
    return tmp_path


def declared(directory: Path, blocks: str, context: Context | None = None) -> dict[str, Declared]:
    path = directory / "platform.yaml"
    path.write_text(f"blocks:\n{blocks}")
    found = Blocks().declare(read(path), context or Mounted(directory / "secrets", directory, ""))
    return {each.key.name: each for each in found}


def refusals(directory: Path, blocks: str, context: Context | None = None) -> list[str]:
    """Return the problems without the path; the blocks begin on line 2."""
    with pytest.raises(ConfigurationError) as caught:
        declared(directory, blocks, context)
    text = "".join(traceback.format_exception(caught.value))
    assert SESAME not in text
    return [str(each).removeprefix(f"{directory}/platform.yaml:") for each in caught.value.problems]


def test_a_body_has_all_defaults_and_keeps_references_to_named_blocks(
    directory: Path,
) -> None:
    found = declared(
        directory,
        f"""
  s3-bucket/results:
    bucket_name: results
    credentials: {{block: aws-credentials/keys}}
  aws-credentials/keys:
    aws_secret_access_key: {PASSWORD}
""",
    )
    assert list(found) == ["aws-credentials/keys", "s3-bucket/results"]
    bucket = found["s3-bucket/results"]
    assert bucket.body == {
        "bucket_name": "results",
        "bucket_folder": "",
        "credentials": {"block": "aws-credentials/keys"},
    }
    assert bucket.needs == {Key(Kind.BLOCK, "aws-credentials/keys")}
    assert bucket.at.line == 3
    keys = found["aws-credentials/keys"]
    assert keys.body["aws_client_parameters"]["use_ssl"] is True
    assert keys.body["aws_secret_access_key"] == SESAME
    assert keys.secrets == {
        ("aws_secret_access_key",): {"secret": {"name": "held", "key": "password"}}
    }


@pytest.mark.parametrize("blocks", ["  {}", "  # nothing"])
def test_an_empty_section_declares_no_blocks(directory: Path, blocks: str) -> None:
    assert declared(directory, blocks) == {}


def test_a_block_may_need_credentials_that_this_machine_lacks(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's block looks for the credentials of its pod as soon as it is created."""
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    found = declared(
        directory,
        "  gcs-bucket/results:\n    bucket: results\n    bucket_folder: default\n"
        "    gcp_credentials: {block_type_slug: gcp-credentials, project: example}\n",
    )["gcs-bucket/results"]

    assert found.body["bucket_folder"] == "default/"
    assert found.body["gcp_credentials"]["service_account_info"] is None


def test_a_secret_is_sent_unchanged_and_never_printed(directory: Path) -> None:
    webhook = declared(
        directory,
        f"  webhook/a: {{url: {PASSWORD}, headers: {{Authorization: {PASSWORD}}}}}\n",
    )["webhook/a"]
    assert SESAME not in f"{webhook} {webhook!r} {webhook.body!s:>5}"
    assert secret_steps(webhook.body) == {("url",), ("headers", "Authorization")}
    assert reveal(webhook.body)["headers"] == {"Authorization": SESAME}
    with pytest.raises(TypeError, match="SecretValue"):
        json.dumps(webhook.body)


def test_a_secret_value_equals_the_text_that_it_hides() -> None:
    assert {"a": SecretValue("x")} == {"a": "x"}
    assert "x" == SecretValue("x")  # noqa: SIM300 - equality works both ways
    assert SecretValue("x") == SecretValue("x")
    assert SecretValue("x") != SecretValue("y")
    assert SecretValue("x") != "y"


@pytest.mark.parametrize(
    ("key", "value"),
    [("password", SESAME), ("windows", SESAME), ("two-lines", f"{SESAME}\n")],
)
def test_one_trailing_line_break_is_removed_from_a_secret(
    directory: Path, key: str, value: str
) -> None:
    by_key = f"  secret/a: {{value: {{secret: {{name: held, key: {key}}}}}}}\n"
    by_file = f"  secret/b: {{value: {{file: secrets/held/{key}}}}}\n"
    found = declared(directory, by_key + by_file)
    assert found["secret/a"].body["value"] == found["secret/b"].body["value"] == value
    assert found["secret/b"].secrets == {("value",): {"file": f"secrets/held/{key}"}}


def test_a_field_that_is_not_secret_may_refer_to_a_secret(directory: Path) -> None:
    found = declared(
        directory,
        f"""
  aws-credentials/a: {{aws_access_key_id: {PASSWORD}}}
  redis-database/a: {{port: {{secret: {{name: held, key: port}}}}}}
""",
    )
    assert found["aws-credentials/a"].body["aws_access_key_id"] == SESAME
    assert SESAME not in repr(found)
    assert found["redis-database/a"].body["port"] == 5433


def test_a_mapping_of_secrets_may_come_from_one_secret(directory: Path) -> None:
    found = declared(
        directory,
        f"  webhook/a: {{url: {PASSWORD}, headers: {{secret: {{name: held, key: json}}}}}}\n",
    )["webhook/a"]
    assert found.body["headers"] == {"Authorization": SESAME}
    assert secret_steps(found.body) == {("url",), ("headers", "Authorization")}


def test_free_form_content_may_look_like_a_file_reference(directory: Path) -> None:
    found = declared(
        directory, "  custom-webhook/a: {name: n, url: 'http://h', json_data: {file: a.txt}}\n"
    )["custom-webhook/a"]
    assert found.body["json_data"] == {"file": "a.txt"}
    assert found.secrets == {}


@pytest.mark.parametrize(
    ("fields", "block_type"),
    [
        (f"{{minio_root_user: u, minio_root_password: {PASSWORD}}}", "minio-credentials"),
        ("{profile_name: p}", "aws-credentials"),
        ("{block_type_slug: aws-credentials}", "aws-credentials"),
        ("{}", "aws-credentials"),
    ],
)
def test_the_type_of_an_inner_block_is_inferred_from_its_fields(
    directory: Path, fields: str, block_type: str
) -> None:
    found = declared(directory, f"  s3-bucket/a: {{bucket_name: b, credentials: {fields}}}\n")
    assert found["s3-bucket/a"].body["credentials"]["block_type_slug"] == block_type


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ("  secret: {}\n", ["2: secret is not the name of a block; write TYPE/NAME, "]),
        ("  secret/Up: {}\n", ["2: secret/Up: Block document name must only contain lowercase"]),
        ("  s3-buckt/a: {}\n", ["2: the block type s3-buckt is not installed; did you mean s3-b"]),
        (
            "  dbt-cli-profile/a: {}\n",
            ["2: the block type dbt-cli-profile is not installed; add the package prefect-dbt, "],
        ),
        ("  s3-bucket/a:\n", ["2: the key bucket_name is missing; add it"]),
        (
            "  aws-credentials/a:\n    regionname: x\n    profile_name: 1\n",
            [
                "3: there is no key regionname here; did you mean region_name?",
                "4: profile_name: Input should be a valid string; correct it",
            ],
        ),
        (
            "  aws-credentials/a:\n    aws_client_parameters:\n      use_sll: true\n",
            ["4: there is no key use_sll here; did you mean use_ssl?"],
        ),
        (
            "  k8s-job/a:\n    v1_job: {a: .nan}\n",
            ["2: k8s-job/a has a value that JSON cannot represent; correct it"],
        ),
        (
            "  s3-bucket/a:\n    bucket_name: b\n    credentials: {regionname: x}\n",
            ["4: there is no key regionname here; did you mean region_name?"],
        ),
        (
            "  s3-bucket/a:\n    bucket_name: b\n    credentials: {block_type_slug: secret}\n",
            [
                "4: a block of type secret is not allowed here; use a block of type "
                "aws-credentials or "
            ],
        ),
        (
            "  s3-bucket/a:\n    bucket_name: b\n    credentials: {block: secret/x}\n",
            [
                "4: a block of type secret is not allowed here; use a block of type "
                "aws-credentials or "
            ],
        ),
        (
            "  s3-bucket/a:\n    bucket_name: b\n    credentials: {block: keys}\n",
            ["4: keys is not the name of a block; write TYPE/NAME"],
        ),
        (
            "  k8s-job/a:\n    v1_job: {}\n"
            "    credentials:\n      cluster_config: {block: kubernetes-cluster-config/c}\n",
            ["5: kubernetes-cluster-config/c is referenced inside an inline block, where Prefect "],
        ),
    ],
)
def test_an_unusable_block_is_refused_with_the_line_number(
    directory: Path, blocks: str, expected: list[str]
) -> None:
    found = refusals(directory, blocks)
    assert [each[: len(start)] for each, start in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("value", "line", "expected"),
    [
        (SESAME, 3, "value is secret, but its value is written in this file; refer to"),
        ("{secret: {name: held}}", 3, "secret: this is not a reference to a Secret; write {secret"),
        (
            "{secret: {name: held, key: no}}",
            3,
            "the Secret held does not exist, or has no key no; c",
        ),
        ("{secret: {name: none, key: k}}", 3, "the Secret none does not exist, or has no key k; c"),
        ("{secret: {name: held, key: obfuscated}}", 3, "the value is the mask that Prefect shows"),
        (
            "{secret: {name: held, key: binary}}",
            3,
            "the key binary of the Secret held is not UTF-8 text, which a block requires; "
            "store text there: encode binary data as base64, and decode it in the flow",
        ),
        (
            "{file: secrets/held/binary}",
            3,
            "the file secrets/held/binary cannot be read: it is not",
        ),
        ("{file: nothing}", 3, "the file nothing cannot be read: No such file or directory; pat"),
        ("{file: 5}", 3, "file: the path is not text; write {file: PATH}"),
        (f"[{PASSWORD}, {SESAME}]", 3, "1 is secret, but its value is written in this file; refe"),
    ],
)
def test_a_missing_invalid_or_literal_secret_is_refused(
    directory: Path, value: str, line: int, expected: str
) -> None:
    (found,) = refusals(directory, f"  secret/a:\n    value: {value}\n")
    assert found.startswith(f"{line}: {expected}")


def test_every_literal_value_in_a_secret_field_is_refused(directory: Path) -> None:
    found = refusals(
        directory,
        f"""  webhook/a:
    url: {SESAME}
    headers:
      Authorization: {SESAME}
  s3-bucket/a:
    bucket_name: b
    credentials:
      aws_secret_access_key: {SESAME}
""",
    )
    assert [each.partition(", but ")[0] for each in found] == [
        "3: url is secret",
        "5: Authorization is secret",
        "9: aws_secret_access_key is secret",
    ]


def test_values_that_a_block_type_rejects_are_refused_without_being_printed(
    directory: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    found = refusals(
        directory,
        f"""
  ms-teams-webhook/a: {{url: {PASSWORD}}}
  slack-webhook/a: {{url: {PASSWORD}, allow_private_url: true}}
""",
    )
    assert [each.partition(";")[0] for each in found] == [
        "3: ms-teams-webhook cannot be used with these values",
        "4: there is no key allow_private_url here",
    ]
    assert SESAME not in caplog.text + "".join(capfd.readouterr())


def test_a_dependency_cycle_of_blocks_is_refused_and_shown(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No installed type can contain itself, so the test registers one until it ends.
    monkeypatch.setitem(dispatch._TYPE_REGISTRIES, Block, {})

    class Node(Block):
        __module__ = "prefect.blocks.node"
        next: Block | None = None

    found = refusals(
        directory,
        """  node/a: {next: {block: node/b}}
  node/b: {next: {block: node/c}}
  node/c:
    next: {block: node/b}
""",
    )
    assert found == [
        "5: these blocks need each other: node/b needs node/c needs node/b; remove one of these "
        "references"
    ]


def test_a_file_is_checked_even_where_secrets_cannot_be_read(directory: Path) -> None:
    blocks = f"""
  ms-teams-webhook/a: {{url: {PASSWORD}}}
  pager-duty-webhook/a: {{integration_key: {PASSWORD}, api_key: {PASSWORD}}}
  webhook/a: {{url: {PASSWORD}, headers: {PASSWORD}}}
  redis-database/a: {{port: {PASSWORD}}}
"""
    assert len(declared(directory, blocks, Offline())) == 4
    (found,) = refusals(directory, blocks + "  redis-database/b: {port: no}\n", Offline())
    assert found.startswith("7: port: Input should be a valid integer")


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(section=sections())
def test_every_valid_section_is_declared_and_fits_the_editor_schema(
    tmp_path: Path, section: Section
) -> None:
    source, secrets = section.written(tmp_path)
    found = Blocks().declare(source, secrets)
    assert {each.key.name for each in found} == set(section.blocks)
    before: set[Key] = set()
    for each in found:
        assert each.needs <= before
        before.add(each.key)
    VALIDATOR.validate(section.blocks)


@pytest.mark.parametrize(
    "blocks",
    [
        {"secret/a": {"value": "literal"}},
        {"webhook/a": {"url": {"file": "x"}, "headers": {"Authorization": "literal"}}},
        {"s3-bucket/a": {"bucket_name": "b", "credentials": {"minio_root_password": "literal"}}},
        {"s3-bucket/a": {"bucket_name": "b", "credentials": {"block": "secret/x"}}},
        {"aws-credentials/a": {"regionname": "x"}},
        {"s3-bucket/a": {}},
        {"nothing/a": {}},
        {"secret/Up": {"value": {"file": "x"}}},
    ],
)
def test_the_editor_schema_refuses_invalid_blocks(blocks: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(blocks)


def test_every_installed_type_has_a_schema_without_references() -> None:
    assert {pattern.partition("/")[0] for pattern in SCHEMA["patternProperties"]} == {
        f"^{name}" for name in installed()
    }
    assert '"$ref"' not in json.dumps(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
