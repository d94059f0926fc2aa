"""`prefect-platform new` in a copy of what it reads and writes."""

import shutil
import subprocess
import sys
from difflib import ndiff
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.lint.linter import declared_limits, lint
from prefect_platform_cli.new_flow.command import NAMES, new
from prefect_platform_cli.new_flow.declarations import TEMPLATES as FILES
from tests.support.documented import block, tables

PAGE = "flows/templates.md"
TEMPLATES = [template.kebab for template in NAMES]
PLATFORM = Path("k8s", "environments", "local", "platform.yaml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    for name in ("prefect.yaml", "pyproject.toml", PLATFORM):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "tests" / "unit" / "flows").mkdir(parents=True)
    (tmp_path / "tests" / "support").symlink_to(REPOSITORY / "tests" / "support")
    return tmp_path


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def every(checkout: Path) -> Path:
    """Return a checkout with two flows of each template.

    Some names are short, long, or contain that of a template, and one is a keyword of SQL.
    """
    for name, template in zip(("x", "order", "my-fan-out", "y"), TEMPLATES, strict=True):
        new(name, template, checkout)
        new(f"{template}-whose-name-is-longer", template, checkout)
    return checkout


def test_what_is_written_is_linted_without_a_finding(every: Path) -> None:
    report = lint([every / "flows", every / "prefect.yaml"], declared_limits([every / PLATFORM]))

    assert report.findings == []
    assert report.unreadable == []


def test_what_is_written_has_the_format_and_the_style_of_the_project(every: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for check in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [ruff, *check, "--no-cache", "flows", "tests/unit"],
            cwd=every,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout


def test_the_written_tests_pass_on_the_written_flows(every: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/flows"],
        cwd=every,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert "26 passed" in ended.stdout


def test_the_deployments_and_limits_are_added_and_nothing_else_changes(every: Path) -> None:
    for name in (Path("prefect.yaml"), PLATFORM):
        before = (REPOSITORY / name).read_text().splitlines()
        after = (every / name).read_text().splitlines()
        assert [line for line in ndiff(before, after) if line.startswith("- ")] == []

    platform = YAML(typ="safe").load((every / PLATFORM).read_text())
    limits = ["order", "fan-out-whose-name-is-longer"]
    assert platform["concurrency_limits"] == {limit: {"limit": 4} for limit in limits}
    assert platform["work_pools"]["default"]["grants"] == {"concurrency_limits": limits}


def test_a_second_call_says_that_the_flow_exists_and_changes_nothing(checkout: Path) -> None:
    new("orders", "fan-out", checkout)
    before = content(checkout)

    with pytest.raises(PlatformError, match=r"the flow orders exists: there is flows/orders\.py"):
        new("orders", "fan-out", checkout)

    assert content(checkout) == before


@pytest.mark.parametrize(
    ("name", "template", "message"),
    [
        ("Orders", "fan-out", "'Orders' cannot be the name of a flow"),
        ("1st", "fan-out", "'1st' cannot be the name of a flow"),
        ("../orders", "fan-out", "'../orders' cannot be the name of a flow"),
        ("a--b", "fan-out", "'a--b' cannot be the name of a flow"),
        ("class", "fan-out", "'class' cannot be the name of a flow"),
        ("o" * 64, "fan-out", "at most 63 characters"),
        ("json", "fan-out", "would hide the module json"),
        ("prefect", "fan-out", "would hide the module prefect"),
        ("lib", "fan-out", "would hide the module lib"),
        ("etl-daily", "fan-out", "the flow etl-daily exists: there is flows/etl_daily.py"),
        ("orders", "fan-in", "there is no template fan-in: the templates are external-job, fan-"),
    ],
)
def test_wrong_arguments_are_refused_with_a_command_to_type(
    checkout: Path, name: str, template: str, message: str
) -> None:
    before = content(checkout)

    with pytest.raises(PlatformError) as refused:
        new(name, template, checkout)

    assert message in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.next_step.startswith(".venv/bin/prefect-platform new ")
    assert content(checkout) == before


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("prefect.yaml", "deployments: [", "prefect.yaml:1: expected the node content"),
        ("prefect.yaml", "- name: daily\n", "prefect.yaml: the file is not a mapping"),
        ("prefect.yaml", "deployments: {}\n", "prefect.yaml: deployments is not a list"),
        ("prefect.yaml", "deployments: [daily]\n", "an item of deployments is not a mapping"),
        (
            "prefect.yaml",
            "deployments: [{name: other, entrypoint: 'flows/orders.py:main'}]\n",
            "the flow orders exists: prefect.yaml has a deployment of flows/orders.py",
        ),
        (PLATFORM, "work_pools: []\n", "platform.yaml: work_pools is not a mapping"),
        (
            PLATFORM,
            "concurrency_limits: {orders: {limit: 1}}\n",
            "platform.yaml declares a concurrency limit of this name",
        ),
    ],
)
def test_nothing_is_written_if_a_file_cannot_be_extended(
    checkout: Path, file: str | Path, text: str, message: str
) -> None:
    (checkout / file).write_text(text)
    before = content(checkout)

    with pytest.raises(PlatformError, match=message):
        new("orders", "fan-out", checkout)

    assert content(checkout) == before


def test_nothing_is_written_if_a_folder_is_missing(checkout: Path) -> None:
    (checkout / "tests" / "unit" / "flows").rmdir()
    before = content(checkout)

    with pytest.raises(PlatformError, match=r"test_orders\.py.* cannot be written"):
        new("orders", "fan-out", checkout)

    assert content(checkout) == before


@pytest.mark.parametrize("text", ["", "name: ours\n", "deployments:\n", "deployments: []\n"])
def test_the_first_deployment_of_a_file_is_added(checkout: Path, text: str) -> None:
    (checkout / "prefect.yaml").write_text(text)

    new("orders", "sql-steps", checkout)

    [entry] = YAML(typ="safe").load((checkout / "prefect.yaml").read_text())["deployments"]
    assert entry["entrypoint"] == "flows/orders.py:orders"


def test_the_page_lists_every_template_and_its_command_works(checkout: Path) -> None:
    listed = [cells[0].strip("`") for cells in tables(REPOSITORY / "docs" / PAGE, "template")]
    [_, _, name, _, template] = block(PAGE, "## Write the files", "sh").split()

    assert sorted(listed) == TEMPLATES
    assert new(name, template, checkout).deployment == "load-orders/on-demand"


@pytest.mark.parametrize(
    ("heading", "template"),
    [
        ("## Fan-out", "fan_out"),
        ("## Incremental load", "incremental_load"),
        ("## External job", "external_job"),
        ("## SQL steps", "sql_steps"),
    ],
)
def test_the_lines_that_the_page_shows_are_in_the_template(heading: str, template: str) -> None:
    assert block(PAGE, heading, "python") in (FILES / f"{template}.py").read_text()
