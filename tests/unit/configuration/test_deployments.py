"""Mistakes in prefect.yaml that `prefect deploy` ignores are refused with the line and the fix."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, WorkPoolConfig

from prefect_platform.configuration.core.context import Mounted, Offline
from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, read
from prefect_platform.configuration.deployments import deployment_models, prefect_yaml
from tests.support.strategies_deployments import FLOWS

STEP = "prefect.deployments.steps.set_working_directory"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "flows.py").write_text(FLOWS)
    return tmp_path


def declare(directory: Path, text: str) -> list[Declared]:
    file = directory / "prefect.yaml"
    file.write_text(text)
    return prefect_yaml.declare(read(file), Offline())


def declare_entry(directory: Path, **more: Any) -> Declared:  # noqa: ANN401
    entry = {"name": "daily", "entrypoint": "flows.py:sales", "work_pool": {"name": "jobs"}, **more}
    (declared,) = declare(directory, yaml.safe_dump({"pull": [], "deployments": [entry]}))
    return declared


def refusal(directory: Path, **more: Any) -> str:  # noqa: ANN401
    """Return the cause and the fix of the only problem of an entry."""
    with pytest.raises(ConfigurationError) as caught:
        declare_entry(directory, **more)
    (problem,) = caught.value.problems
    return f"{problem.cause}; {problem.fix}"


def cron(**more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"slug": "early", "cron": "0 6 * * *", **more}


def test_every_key_that_prefect_knows_is_read_or_refused_with_a_reason() -> None:
    of_entry = deployment_models.Deployment.model_fields.keys() | deployment_models.REFUSED.keys()
    of_file = {
        field.alias or name for name, field in deployment_models.File.model_fields.items()
    } | deployment_models.REFUSED.keys()
    known_to_prefect = {
        field.alias or name for name, field in PrefectYamlModel.model_fields.items()
    }

    assert of_entry >= DeploymentConfig.model_fields.keys()
    assert of_file >= known_to_prefect
    assert (
        deployment_models.DeploymentWorkPool.model_fields.keys()
        == WorkPoolConfig.model_fields.keys()
    )


UNKNOWN = """
pull: []
projekt: x
deployments:
  - name: daily
    entrypoint: flows.py:sales
    work_pool:
      name: jobs
      job_vars: {}
    schedules:
      - slug: early
        corn: 0 6 * * *
    concurrency_limit:
      limit: 1
      collision_strategy: ENQUEUE
      grace: 60
"""


def test_an_unknown_key_is_refused_at_any_depth_with_the_line_number(directory: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare(directory, UNKNOWN)
    assert [each.at.line for each in caught.value.problems] == [3]

    with pytest.raises(ConfigurationError) as caught:
        declare(directory, UNKNOWN.replace("projekt", "name"))

    found = {(each.at.line, each.cause) for each in caught.value.problems}
    assert {(9, "there is no key job_vars here"), (12, "there is no key corn here")} <= found
    assert (16, "there is no key grace here") in found


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"name": None}, "the key name is missing"),
        ({"entrypoint": None}, "the key entrypoint is missing"),
        ({"work_pool": None}, "the key work_pool is missing"),
        ({"entrypoint": "other.py:sales"}, "there is no file other.py for the flow sales"),
        ({"entrypoint": "flows.py:sale"}, "Flow function with name 'sale' not found"),
        ({"entrypoint": "flows.py:date"}, "'date' is not a flow"),
        ({"entrypoint": "/flows.py:sales"}, "write it relative to this file"),
        ({"entrypoint": "sales"}, "sales is not an entrypoint"),
        ({"entrypoint": "nowhere.sales"}, "No module named 'nowhere'"),
        ({"parameters": {"dai": 1}}, "no parameter dai; use one of: day, regions, options"),
        ({"parameters": {"regions": 1}}, "regions: 1 is not of type 'array'"),
        ({"schedules": [cron(parameters={"dai": 1})]}, "no parameter dai"),
        ({"schedules": [cron(slug=None)]}, "the schedule has no slug"),
        ({"schedules": [cron(), cron()]}, "two schedules have the slug early"),
        ({"schedules": [cron(cron="0 0 30 2 *")]}, "cron: no run can be scheduled"),
        (
            {"schedules": [{"slug": "a", "interval": 20}]},
            "interval: two runs are 20 s apart, but at least 30 s are required",
        ),
        (
            {"schedules": [{"slug": "a", "rrule": "DTSTART:20260101T000000\nRRULE:FREQ=SECONDLY"}]},
            "rrule: two runs are 1 s apart",
        ),
        (
            {"schedules": [{"slug": "a", "interval": 90000, "timezone": "Europe/Berlin"}]},
            "after a clock change in Europe/Berlin, the times of its runs depend on when the",
        ),
        (
            {"schedules": [{"slug": "a", "interval": 86400, "timezone": "America/Santiago"}]},
            "a clock change in America/Santiago skips 00:00, and all later runs start at",
        ),
        ({"schedules": [cron(cron="never")]}, 'cron: Invalid cron string: "never"'),
        ({"schedules": [cron(timezone="Mars/North")]}, 'timezone: Invalid timezone: "Mars/North"'),
        ({"schedules": [cron(replaces="old")]}, "the file replaces all schedules"),
        ({"schedules": [cron(anchor_date="2026-01-01")]}, "anchor_date requires interval"),
        ({"schedules": [{"slug": "a", "interval": 0}]}, "interval: Input should be greater than 0"),
        (
            {"schedules": [{"slug": "a", "interval": 60, "timezone": "Mars/North"}]},
            "timezone: Invalid timezone",
        ),
        (
            {"schedules": [{"slug": "a", "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}]},
            "rrule: the schedule never starts a run",
        ),
        (
            {"schedules": [{"slug": "a", "rrule": "FREQ=DAILY;UNTIL=20990101T000000Z"}]},
            "rrule: no run can be scheduled",
        ),
        (
            {"schedules": [{"slug": "a", "rrule": "FREQ=MINUTELY"}]},
            "use interval, or put the start",
        ),
        ({"build": [{"x": {}}]}, "a deploy builds and pushes nothing"),
        ({"push": [{"x": {}}]}, "a deploy builds and pushes nothing"),
        ({"triggers": [{"x": 1}]}, "declare them under automations in platform.yaml"),
        ({"sla": [{"x": 1}]}, "only Prefect Cloud has it"),
        ({"schedule": {"cron": "0 6 * * *"}}, "write `schedules:` with one item"),
        ({"flow_name": "x"}, "Prefect takes the name from the flow itself"),
        ({"version_type": "vcs:git"}, "differs between a laptop and a pod"),
        ({"description": "{{ prefect.blocks.secret.x }}"}, "which may be secret"),
        ({"tags": ["{{ prefect.variables.x }}"]}, "read it in the flow with Variable.get"),
        ({"version": "{{ $GITHUB_SHA }}"}, "differs between a laptop and a pod"),
        ({"version": "{{ build-image.tag }}"}, "the output of a build step"),
        ({"description": "{{ ctx.flow_run.name }}"}, "the output of a build step"),
        ({"parameters": {"options": {"$ref": {"block_document_id": "x"}}}}, "load the block"),
        ({"parameters": {"options": {"x": float("inf")}}}, "inf is not valid JSON"),
        ({"pull": [{f"{STEP}s": {}}]}, f"Prefect has no step {STEP}s"),
        ({"concurrency_limit": 0}, "greater than 0"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_with_an_explanation(
    directory: Path, more: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(directory, **more)


def test_a_duplicate_deployment_is_refused_with_both_line_numbers(directory: Path) -> None:
    entry = "{name: daily, entrypoint: 'flows.py:sales', work_pool: {name: jobs}}"

    with pytest.raises(
        ConfigurationError, match=r":4: the deployment sales/daily is also declared at .*:3"
    ):
        declare(directory, f"pull: []\ndeployments:\n  - {entry}\n  - {entry}\n")


def test_a_file_without_a_pull_section_is_refused(directory: Path) -> None:
    entry = "{name: daily, entrypoint: 'flows.py:sales', work_pool: {name: jobs}}"

    with pytest.raises(ConfigurationError, match="directory of the machine that deploys"):
        declare(directory, f"deployments: [{entry}]")


def test_a_schedule_without_a_required_parameter_is_refused(directory: Path) -> None:
    (directory / "flows.py").write_text("from prefect import flow\n@flow\ndef sales(day): ...\n")

    assert "no value for day" in refusal(directory, schedules=[cron()])
    assert declare_entry(directory, schedules=[cron(parameters={"day": 1})])


def test_job_variables_are_checked_against_the_base_job_template(
    directory: Path, tmp_path: Path
) -> None:
    properties = {"image": {"type": "string"}}
    (tmp_path / "jobs.json").write_text(json.dumps({"variables": {"properties": properties}}))
    entry = {"name": "daily", "entrypoint": "flows.py:sales"}
    pool = {"name": "jobs", "job_variables": {"image": 7, "imgae": "x"}}
    file = directory / "prefect.yaml"
    file.write_text(yaml.safe_dump({"pull": [], "deployments": [{**entry, "work_pool": pool}]}))

    with pytest.raises(ConfigurationError) as caught:
        prefect_yaml.declare(read(file), Mounted(tmp_path, tmp_path, ""))

    assert {each.cause for each in caught.value.problems} == {
        "the base job template of the work pool jobs has no variable imgae",
        "image: 7 is not valid under any of the given schemas",
    }


def test_a_deployment_needs_its_work_pool_and_work_queue(directory: Path) -> None:
    pool = {"name": "jobs", "work_queue_name": "urgent"}

    assert declare_entry(directory, work_pool=pool).needs == {
        Key(Kind.WORK_POOL, "jobs"),
        Key(Kind.WORK_QUEUE, "jobs/urgent"),
    }


def test_an_interval_has_the_same_anchor_wherever_it_is_deployed(directory: Path) -> None:
    schedule = {"slug": "a", "interval": 86400, "timezone": "America/New_York"}

    (declared,) = declare_entry(directory, schedules=[schedule]).body["schedules"]

    assert declared["anchor_date"] == "2020-01-01T05:00:00+00:00"


def test_a_flow_is_described_the_same_without_its_imports(directory: Path) -> None:
    with_imports = declare_entry(directory)
    text = "import not_installed_here\n" + (directory / "flows.py").read_text()
    (directory / "flows.py").write_text(text)
    without = declare_entry(directory)

    different = {key for key in without.body if without.body[key] != with_imports.body[key]}
    assert different == {"version"}, (
        "only the version may differ, because it is the checksum of the file"
    )


def test_a_flow_that_cannot_be_described_without_its_imports_is_refused(directory: Path) -> None:
    (directory / "flows.py").write_text(
        "from prefect import flow\nimport not_installed_here as x\n"
        "@flow\ndef sales(day: x.Day, hour: int = x.NOON, place=None): ...\n"
    )

    assert "the type or default of these parameters is unknown: day, hour" in refusal(directory)


@pytest.mark.parametrize("mistake", ["1 / 0", "def"])
def test_a_flow_whose_file_cannot_be_loaded_is_refused(directory: Path, mistake: str) -> None:
    (directory / "flows.py").write_text(f"{FLOWS}\n{mistake}\n")

    assert "flows.py cannot be loaded" in refusal(directory)


def test_flows_in_two_folders_may_import_modules_of_the_same_name(directory: Path) -> None:
    for folder in ("a", "b"):
        (directory / folder).mkdir()
        (directory / folder / "names.py").write_text(f"NAME = 'flow-{folder}'\n")
        (directory / folder / "main.py").write_text(
            "from prefect import flow\nfrom names import NAME\n@flow(name=NAME)\ndef run(): ...\n"
        )

    names = [
        declare_entry(directory, entrypoint=f"{folder}/main.py:run").key.name for folder in "ab"
    ]

    assert names == ["flow-a/daily", "flow-b/daily"]


def test_the_deployments_of_this_repository_are_valid(request: pytest.FixtureRequest) -> None:
    file = request.config.rootpath / "prefect.yaml"

    declared = prefect_yaml.declare(read(file), Offline())

    assert "etl-daily/daily" in {each.key.name for each in declared}
