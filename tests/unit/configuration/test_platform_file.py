"""Every section of a platform file is optional, and all mistakes are reported together."""

import json
from pathlib import Path

import pytest

from prefect_platform.configuration.core.context import Mounted, Offline
from prefect_platform.configuration.core.source import ConfigurationError
from prefect_platform.configuration.platform_file import Files, load

NAMES = {
    "variables": "a",
    "concurrency_limits": "a",
    "tag_concurrency_limits": "a",
    "work_pools": "a",
    "blocks": "secret/a",
    "automations": "a",
}
"""A valid name for each section."""


def declared(folder: Path, text: str) -> list[str]:
    """Return the resources that a platform file declares, without the automation pack."""
    (folder / "platform.yaml").write_text(text)
    (folder / "prefect.yaml").write_text("deployments: []\n")
    files = Files(folder / "platform.yaml", folder / "prefect.yaml")
    return [str(each.key) for each in load(files, Offline()) if "platform: " not in each.key.name]


def problems(folder: Path, text: str) -> list[str]:
    """Return the problems of an invalid platform file, without its path."""
    with pytest.raises(ConfigurationError) as refused:
        declared(folder, text)
    return [str(each).removeprefix(f"{folder}/platform.yaml:") for each in refused.value.problems]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "blocks:\nautomations:\nalerts:\n"])
def test_an_empty_file_declares_only_the_automation_pack(tmp_path: Path, text: str) -> None:
    assert declared(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("[]\n", 1, "the file is not a mapping"),
        ("work_pool: {}\n", 1, "there is no section work_pool"),
        (
            "variables: {prefect_platform_lock: {value: 1}}\n",
            1,
            "is reserved for the lock of `apply`",
        ),
        (
            "variables: {work_pool_grants_default: {value: {}}}\n",
            1,
            "is reserved for the grants of a work pool",
        ),
        ("work_pools: {a: {grants: {blocks: [results]}}}\n", 1, "should match pattern"),
        *(
            (
                f"variables: {{region: {{value: 1}}}}\nwork_pools:\n  a:\n    type: docker\n"
                "    base_job_template: {variables: {}, job_configuration: {}}\n"
                f"    grants: {{writable_variables: [{name}]}}\n",
                6,
                f"runs may not change the variable {name}, which the configuration sets",
            )
            for name in ("region", "prefect_platform_lock", "work_pool_grants_a")
        ),
        ("work_pools: {prefect-etl: {}}\n", 1, "Prefect reserves names"),
        ("work_pools: {a: {queues: {x/y: {}}}}\n", 1, "should match pattern"),
        (
            "work_pools:\n  a:\n    queues:\n      x: {priority: 1}\n      y: {priority: 1}\n",
            5,
            "the queues x and y have the same priority, 1",
        ),
        ("work_pools: {a: {type: docker}}\n", 1, "has no base_job_template"),
        ("concurrency_limits: {'tag:a': {limit: 1}}\n", 1, "the server reserves names"),
        ("tag_concurrency_limits: {a: many}\n", 1, "should be a valid integer"),
        ("tag_concurrency_limits: {a/b: 1}\n", 1, "should match pattern"),
        ("variables: {a: {value: {b: [.inf]}}}\n", 1, "should be a finite number"),
        ("variables: {a: {value: 2020-01-01}}\n", 1, "not a valid JSON value"),
        (
            "concurrency_limits: {a: {limit: 1, slot_decay_per_second: .inf}}\n",
            1,
            "should be a finite number",
        ),
        (
            "work_pools:\n  a:\n    type: docker\n    base_job_template:\n      b: 2020-01-01\n",
            5,
            "not a valid JSON value",
        ),
        ("alerts:\n  channels:\n    5: {type: slack}\n", 3, "`5` is not a name"),
        ("automations: {'platform: crashed': {trigger: {}, actions: []}}\n", 1, "alerts"),
    ],
)
def test_a_mistake_is_refused_with_the_line_number(
    tmp_path: Path, text: str, line: int, cause: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        declared(tmp_path, text)
    assert any(each.at.line == line and cause in each.cause for each in refused.value.problems), (
        refused.value
    )


def test_a_pool_of_the_chart_cannot_have_a_template_of_its_own(tmp_path: Path) -> None:
    charted = {"job_configuration": {"command": "a"}, "variables": {"type": "object"}}
    (tmp_path / "default.json").write_text(json.dumps(charted))
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    context = Mounted(tmp_path, tmp_path, "prefect-workers/prefect-worker")

    def declare(template: object) -> set[str]:
        pools = {"default": {"base_job_template": template}}
        (tmp_path / "platform.yaml").write_text(json.dumps({"work_pools": pools}))
        files = Files(tmp_path / "platform.yaml", tmp_path / "prefect.yaml")
        return {str(each.key) for each in load(files, context)}

    for same in (charted, "default.json"):
        assert "work pool default" in declare(same)
    with pytest.raises(ConfigurationError, match="uses the template of the chart prefect-worker"):
        declare({**charted, "job_configuration": {"command": "b"}})


@pytest.mark.parametrize("section", NAMES)
def test_the_same_mistake_has_the_same_message_in_every_section(
    tmp_path: Path, section: str
) -> None:
    name = NAMES[section]
    assert problems(tmp_path, f"{section}: [a]\n") == [
        f"1: {section} is not a mapping; write `KEY: VALUE` lines"
    ]
    assert problems(tmp_path, f"{section}:\n  5: {{}}\n  '': {{}}\n") == [
        "2: `5` is not a name; write text in quotes",
        "3: `` is not a name; write text in quotes",
    ]
    if section == "tag_concurrency_limits":
        return
    assert problems(tmp_path, f"{section}:\n  {name}: text\n") == [
        f"2: {name} is not a mapping; write `KEY: VALUE` lines"
    ]
    assert "3: there is no key nobody here; remove it, or correct it" in problems(
        tmp_path, f"{section}:\n  {name}:\n    nobody: 1\n"
    )


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("variables", "value"),
        ("concurrency_limits", "limit"),
        ("blocks", "value"),
        ("automations", "trigger"),
    ],
)
def test_a_resource_without_fields_is_refused_for_the_missing_key(
    tmp_path: Path, section: str, key: str
) -> None:
    found = problems(tmp_path, f"{section}:\n  {NAMES[section]}:\n")
    assert f"2: the key {key} is missing; add it" in found


def test_mistakes_in_all_sections_are_reported_together(tmp_path: Path) -> None:
    text = "variables: {a: {}}\nconcurrency_limits: {b: {}}\nwork_pools: {c: {x: 1}}\n"
    with pytest.raises(ConfigurationError) as refused:
        declared(tmp_path, text)
    assert [each.at.line for each in refused.value.problems] == [1, 2, 3]
