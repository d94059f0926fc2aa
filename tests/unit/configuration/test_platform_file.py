"""A platform file is read as a whole: all of it may be left out, and all mistakes come at once."""

from pathlib import Path

import pytest

from prefect_platform.configuration.platform_file import Files, load
from prefect_platform.configuration.source import ConfigurationError
from prefect_platform.configuration.surroundings import Offline


def declared(folder: Path, text: str) -> list[str]:
    """Return what a platform file declares, without the pack."""
    (folder / "platform.yaml").write_text(text)
    (folder / "prefect.yaml").write_text("deployments: []\n")
    files = Files(folder / "platform.yaml", folder / "prefect.yaml")
    return [str(each.key) for each in load(files, Offline()) if "platform: " not in each.key.name]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "blocks:\nautomations:\nalerts:\n"])
def test_an_empty_file_declares_the_pack_alone(tmp_path: Path, text: str) -> None:
    assert declared(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("[]\n", 1, "the file is not a mapping"),
        ("work_pool: {}\n", 1, "there is no section work_pool"),
        ("variables: [a]\n", 1, "variables is not a mapping"),
        ("variables: {prefect_platform_lock: {value: 1}}\n", 1, "is the lock of `apply` itself"),
        ("work_pools: {prefect-etl: {}}\n", 1, "Prefect keeps names"),
        ("work_pools: {a: 0}\n", 1, "Input should be a valid dictionary"),
        ("work_pools: {a: {queues: {x/y: {}}}}\n", 1, "should match pattern"),
        (
            "work_pools:\n  a:\n    queues:\n      x: {priority: 1}\n      y: {priority: 1}\n",
            5,
            "the queues x and y have one priority, 1",
        ),
        ("work_pools: {a: {type: docker}}\n", 1, "has no base_job_template"),
        ("concurrency_limits: {'tag:a': {limit: 1}}\n", 1, "the server uses names"),
        ("tag_concurrency_limits: {a: many}\n", 1, "should be a valid integer"),
        ("automations: {'platform: crashed': {trigger: {}, actions: []}}\n", 1, "alerts"),
    ],
)
def test_a_mistake_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, cause: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        declared(tmp_path, text)
    assert any(each.at.line == line and cause in each.cause for each in refused.value.problems), (
        refused.value
    )


def test_mistakes_of_all_sections_come_at_once(tmp_path: Path) -> None:
    text = "variables: {a: {}}\nconcurrency_limits: {b: {}}\nwork_pools: {c: {x: 1}}\n"
    with pytest.raises(ConfigurationError) as refused:
        declared(tmp_path, text)
    assert [each.at.line for each in refused.value.problems] == [1, 2, 3]
