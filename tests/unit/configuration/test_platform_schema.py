"""The JSON schema for editors agrees with the command on valid files and on mistakes."""

from pathlib import Path

import jsonschema
import pytest

from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.source import read
from prefect_platform.configuration.platform_file import Files, load
from prefect_platform_cli.charts import platform_schema
from prefect_platform_cli.host.paths import REPOSITORY

_SCHEMA = platform_schema.json_schema()
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA)
_ENVIRONMENTS = sorted((REPOSITORY / "k8s" / "environments").glob("*/platform.yaml"))


def test_the_published_schema_is_up_to_date() -> None:
    command = "python -m prefect_platform_cli.charts.platform_schema"
    assert platform_schema.FILE.read_text() == platform_schema.written(), (
        f"the schema is out of date; run: {command}"
    )


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(_SCHEMA)


@pytest.mark.parametrize("file", _ENVIRONMENTS, ids=lambda file: file.parent.name)
def test_every_environment_is_valid_for_the_command_and_the_schema(file: Path) -> None:
    load(Files(file, REPOSITORY / "prefect.yaml"), Offline())
    _VALIDATOR.validate(read(file).data)


@pytest.mark.parametrize(
    "mistake",
    [
        {"work_pool": {}},
        {"work_pools": {"default": {"limit": 3}}},
        {"variables": {"a": {"values": 1}}},
        {"tag_concurrency_limits": {"database": -1}},
        {"blocks": {"slack-webhook/ops": {"urls": "x"}}},
        {"automations": {"a": {"trigger": {"type": "event", "expects": []}, "actions": []}}},
        {"alerts": {"channels": {"ops": {"type": "pigeon"}}}},
        {"alerts": {"severities": {"fatal": []}}},
    ],
    ids=str,
)
def test_the_schema_refuses_a_mistake(mistake: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        _VALIDATOR.validate(mistake)
