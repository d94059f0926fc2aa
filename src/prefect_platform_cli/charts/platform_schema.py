"""The JSON schema of platform.yaml, which lets editors complete and check the file.

`python -m prefect_platform_cli.charts.platform_schema` writes it; a test fails when it is stale.
"""

import json
from typing import Any

from prefect_platform.configuration.automations.alerts import Alerts
from prefect_platform.configuration.kinds import SECTIONS
from prefect_platform_cli.host.paths import REPOSITORY

FILE = REPOSITORY / "k8s" / "environments" / "platform.schema.json"


def json_schema() -> dict[str, Any]:
    """Return the schema, with the definitions of all sections at its root."""
    sections = {each.section: each.json_schema() for each in SECTIONS}
    sections["alerts"] = Alerts.model_json_schema()
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


if __name__ == "__main__":
    FILE.write_text(written())
