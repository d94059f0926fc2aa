"""Both charts read the retention file, and refuse what its model refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from prefect.settings.models.root import Settings
from pydantic import ValidationError

from prefect_platform.retention_file import RetentionFile, seconds
from tests.support.rendering import ENVIRONMENTS, STORIES, Object, find, objects, template

FILES = sorted(ENVIRONMENTS.glob("*/retention.yaml"))
SCHEMA = ENVIRONMENTS / "retention.schema.json"
VACUUM = ("PREFECT_SERVER_SERVICES_DB_VACUUM_", "PREFECT_SERVER_EVENTS_RETENTION_PERIOD")


def vacuum(story: str, component: str = "api") -> dict[str, str]:
    """Return the settings of Prefect's vacuum that a story renders."""
    pod = find(objects(STORIES[story]), "Deployment", component)["spec"]["template"]["spec"]
    return {
        each["name"]: each["value"]
        for each in pod["containers"][0]["env"]
        if each["name"].startswith(VACUUM)
    }


def sweep(values: dict[str, object]) -> Object:
    cron_job = find(objects(STORIES["server"].with_values(values)), "CronJob", "retention")
    spec: Object = cron_job["spec"]
    return spec


def nested(values: dict[str, object]) -> dict[str, Any]:
    """Return values with dotted keys in the nested form of a file."""
    document: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        level = document
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = value
    return document


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_model_and_schema_accept_the_file_of_every_environment(path: Path) -> None:
    document = yaml.safe_load(path.read_text())

    RetentionFile.model_validate(document)
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)


def test_every_environment_has_a_file_that_names_its_schema_for_editors() -> None:
    assert {path.parent for path in FILES} == {
        path for path in ENVIRONMENTS.iterdir() if path.is_dir() and path.name != "base"
    }
    for path in FILES:
        _, _, schema = path.read_text().splitlines()[0].partition("$schema=")
        assert (path.parent / schema).resolve() == SCHEMA


@pytest.mark.parametrize(
    ("story", "component"), [("server", "api"), ("server-ha", "api"), ("server-ha", "services")]
)
def test_prefect_reads_the_rendered_periods(
    story: str, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in vacuum(story, component).items():
        monkeypatch.setenv(name, value)
    server = Settings().server
    settings = server.services.db_vacuum

    assert settings.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert settings.retention_period.days == 90
    assert {name: each.days for name, each in settings.event_retention_overrides.items()} == {
        "prefect.flow-run.heartbeat": 7
    }
    assert server.events.retention_period.days == 90


def test_a_file_configures_the_vacuum_the_sweep_and_the_jobs() -> None:
    assert vacuum("server-staging")["PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"] == (
        str(14 * 86400)
    )
    cron_job = find(objects(STORIES["server-staging"]), "CronJob", "retention")
    (container,) = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert set(container["args"]) == {
        f"--{age}={14 * 86400}" for age in ("flow-runs", "unfinished-runs", "logs", "artifacts")
    }
    templates = find(objects(STORIES["worker-production"]), "ConfigMap", "work-pool")["data"]
    for pool in ("default", "heavy"):
        variables = json.loads(templates[f"{pool}.json"])["variables"]["properties"]
        assert variables["finished_job_ttl"]["default"] == 72 * 3600


@pytest.mark.parametrize(
    ("period", "expected"), [("90d", 7776000), ("36h", 129600), ("90m", 5400), ("61m", 3660)]
)
def test_charts_and_model_convert_a_period_to_the_same_number_of_seconds(
    period: str, expected: int
) -> None:
    values: dict[str, object] = {
        "retention.flowRuns": period,
        "retention.logs": "61m",
        "retention.artifacts": "61m",
    }
    args = sweep(values)["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]

    assert seconds(period) == expected
    assert f"--flow-runs={expected}" in args


def test_the_sweep_supports_a_dry_run_and_is_suspended_during_a_downgrade() -> None:
    dry = sweep({"retentionSweep.dryRun": True})["jobTemplate"]["spec"]["template"]["spec"]

    assert "--dry-run" in dry["containers"][0]["args"]
    assert "suspend" not in sweep({})  # so that an upgrade keeps a manual suspension
    assert sweep({"migrations.revision": "9e9dadc36797"})["suspend"] is True


_PERIODS = ("flowRuns", "events.default", "jobs.failed", "objects.results")


@pytest.mark.parametrize("period", ["0d", "90", "-1d", "1.5d", "90 d", "P90D", "1w", "d", "", 90])
@pytest.mark.parametrize("key", _PERIODS)
def test_an_invalid_period_is_refused(key: str, period: object) -> None:
    # All keys are given at once, because the schema reports every invalid value.
    refused = template(
        STORIES["server"].with_values({f"retention.{each}": period for each in _PERIODS})
    )

    assert refused.returncode != 0
    assert f"at '/retention/{key.replace('.', '/')}': " in refused.stderr
    with pytest.raises(ValidationError):
        RetentionFile.model_validate(nested({f"retention.{key}": period}))


def test_periods_of_buckets_must_be_in_days() -> None:
    for key in ("objects.results", "backups"):
        refused = template(STORIES["worker"].with_values({f"retention.{key}": "2400h"}))
        assert f"/retention/{key.replace('.', '/')}" in refused.stderr


@pytest.mark.parametrize(
    ("chart", "values", "message"),
    [
        ("server", {"flowRuns": "60m"}, "retention.flowRuns is 60m, but data that is an hour old"),
        ("server", {"unfinishedRuns": "1h"}, "retention.unfinishedRuns is 1h, but data that is"),
        ("server", {"logs": "1h"}, "retention.logs is 1h, but data that is an hour old"),
        ("server", {"artifacts": "30m"}, "retention.artifacts is 30m, but data that is an"),
        ("server", {"events.default": "1h"}, "retention.events.default is 1h, but data that is"),
        (
            "server",
            {"events.byType": {"a": "1h"}},
            "retention.events.byType.a is 1h, but data that is an hour old",
        ),
        (
            "server",
            {"events.byType": {"a": "91d"}},
            "retention.events.byType.a is 91d, but every event is deleted after 90d",
        ),
        ("server", {"logs": "91d"}, "retention.logs is 91d, but they are deleted with their"),
        ("server", {"artifacts": "91d"}, "retention.artifacts is 91d, but they are deleted"),
        ("server", {"objects.results": "89d"}, "set at least retention.flowRuns"),
        ("server", {"unfinishedRuns": "98d"}, "set at least retention.unfinishedRuns"),
        ("worker", {"jobs.succeeded": "25h"}, "retention.jobs.succeeded is 25h, but every"),
    ],
)
def test_charts_and_model_refuse_a_contradiction_with_the_same_message(
    chart: str, values: dict[str, object], message: str
) -> None:
    values = {f"retention.{key}": value for key, value in values.items()}
    refused = template(STORIES[chart].with_values(values))

    assert refused.returncode != 0
    assert message in refused.stderr
    with pytest.raises(ValidationError) as error:
        RetentionFile.model_validate(nested(values))
    (detail,) = error.value.errors()
    assert message in detail["msg"]
    assert detail["msg"].removeprefix("Value error, ") in refused.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"logs": "7d", "artifacts": "30d"},
        {"flowRuns": "96d"},
        {"events.default": "7d"},
        {"jobs.succeeded": "24h"},
    ],
)
def test_consistent_periods_are_accepted(values: dict[str, object]) -> None:
    values = {f"retention.{key}": value for key, value in values.items()}

    for chart in ("server", "worker"):
        rendered = template(STORIES[chart].with_values(values))
        assert rendered.returncode == 0, rendered.stderr
    RetentionFile.model_validate(nested(values))
