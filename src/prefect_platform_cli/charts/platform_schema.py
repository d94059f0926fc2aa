"""The JSON schema of platform.yaml, by which editors complete it and underline mistakes.

`python -m prefect_platform_cli.charts.platform_schema` writes it; a test fails when it is stale.
"""

import json
from typing import Any

from pydantic import BaseModel, TypeAdapter

from prefect_platform.configuration.automations import automation_schema
from prefect_platform.configuration.automations.alerts import Alerts
from prefect_platform.configuration.blocks import block_schemas
from prefect_platform.configuration.concurrency_limits import ConcurrencyLimit, Slots
from prefect_platform.configuration.variables import Variable
from prefect_platform.configuration.work_pools import WorkPool
from prefect_platform_cli.host.paths import REPOSITORY

FILE = REPOSITORY / "k8s" / "environments" / "platform.schema.json"


def json_schema() -> dict[str, Any]:
    """Return the schema, with the definitions of all sections at its root."""
    sections = {
        "variables": _by_name(Variable, "Variables, which flows read by name."),
        "concurrency_limits": _by_name(ConcurrencyLimit, "Global concurrency limits by name."),
        "tag_concurrency_limits": {
            "description": "How many task runs with a tag may run at once, by tag.",
            "type": "object",
            "additionalProperties": TypeAdapter(Slots).json_schema(),
        },
        "blocks": block_schemas.json_schema(),
        "work_pools": _by_name(WorkPool, "Work pools by name, with their queues."),
        "automations": automation_schema.json_schema(),
        "alerts": Alerts.model_json_schema(),
    }
    definitions: dict[str, Any] = {}
    for section in sections.values():
        definitions |= section.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "platform.yaml",
        "type": "object",
        "properties": {
            name: {"anyOf": [section, {"type": "null"}]} for name, section in sections.items()
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def written() -> str:
    """Return the schema as it is committed."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _by_name(model: type[BaseModel], description: str) -> dict[str, Any]:
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {
        "description": description,
        "type": "object",
        "additionalProperties": schema,
        "$defs": definitions,
    }


if __name__ == "__main__":
    FILE.write_text(written())
