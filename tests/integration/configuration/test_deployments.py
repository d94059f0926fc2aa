"""Deployments on a real server match prefect.yaml, and are those that `prefect deploy` creates."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.configuration.core import prefect_api
from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.resource import Declared, Found, Inventory
from prefect_platform.configuration.core.source import read
from prefect_platform.configuration.deployments import deployment_models, prefect_yaml
from prefect_platform.configuration.deployments.deployment_resources import Deployments
from tests.support.servers import clean_environment, prefect_server
from tests.support.strategies_deployments import FLOWS, POOL, deployment_entries

TEMPLATE = {
    "job_configuration": {"image": "{{ image }}", "env": "{{ env }}"},
    "variables": {
        "type": "object",
        "properties": {
            "image": {"type": "string", "default": "flows"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}
PULL = [{"prefect.deployments.steps.set_working_directory": {"directory": "/opt/prefect"}}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    with (
        prefect_server(tmp_path_factory.mktemp("server")) as url,
        prefect_api.prefect_api(url, None) as client,
    ):
        create_pool(client)
        yield client


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    """Return a directory with flows, into which the test writes a prefect.yaml."""
    (tmp_path / "flows.py").write_text(FLOWS)
    return tmp_path


@pytest.fixture(autouse=True)
def no_deployments(client: SyncPrefectClient) -> None:
    for found in Deployments().read(client, Inventory()):
        Deployments().delete(client, found)


def create_pool(client: SyncPrefectClient) -> None:
    pool = {"name": POOL, "type": "kubernetes", "base_job_template": TEMPLATE}
    client.request("POST", "/work_pools/", json=pool)
    client.request(
        "POST",
        "/work_pools/{work_pool_name}/queues",
        path_params={"work_pool_name": POOL},
        json={"name": "urgent"},
    )


def declare(directory: Path, *entries: dict[str, Any]) -> list[Declared]:
    file = directory / "prefect.yaml"
    # JSON is valid YAML, and quotes every string that hypothesis generates.
    content = {"pull": PULL, "deployments": list(entries)}
    file.write_text(json.dumps(content, ensure_ascii=False))
    return prefect_yaml.declare(read(file), Offline())


def entry(name: str = "daily", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "name": name,
        "entrypoint": "flows.py:sales",
        "parameters": {"day": "2026-01-01"},
        "work_pool": {"name": POOL},
        **more,
    }


def cron(slug: str, hour: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"slug": slug, "cron": f"0 {hour} * * *", **more}


def apply(client: SyncPrefectClient, declared: list[Declared]) -> dict[str, Found]:
    """Create or update the declared deployments; return all that the server has then, by name."""
    deployments, inventory = Deployments(), Inventory()
    inventory.add(deployments.read(client, inventory))
    for each in declared:
        if found := inventory.get(each.key):
            deployments.update(client, inventory, each, found)
        else:
            deployments.create(client, inventory, each)
    return {found.key.name: found for found in deployments.read(client, inventory)}


def compared(declared: Declared, found: Found) -> dict[str, Any]:
    """Return the fields that a plan compares."""
    return {name: found.body[name] for name in declared.body if name in found.body}


def served(client: SyncPrefectClient, found: Found) -> dict[str, Any]:
    response = client.request("GET", "/deployments/{id}", path_params={"id": found.id})
    deployment: dict[str, Any] = response.json()
    return deployment


def runs(client: SyncPrefectClient, found: Found) -> list[dict[str, Any]]:
    mine = {"deployments": {"id": {"any_": [str(found.id)]}}}
    return list(prefect_api.pages(client, "/flow_runs/filter", mine))


def schedule_from(client: SyncPrefectClient, found: Found, start: dt.datetime) -> None:
    """Have the server schedule the deployment's runs as if the time were `start`."""
    client.request(
        "POST",
        "/deployments/{id}/schedule",
        path_params={"id": found.id},
        json={"start_time": start.isoformat(), "min_runs": 3},
    )


EVERYTHING = f"""
name: everything
prefect-version: 3.9.1
definitions:
  tags: &tags [etl, daily]
  pool: &pool
    name: {POOL}
  mornings: &mornings
    slug: mornings
    cron: 0 6 * * 1-5
    timezone: America/New_York
    day_or: false
pull:
  - prefect.deployments.steps.git_clone:
      id: clone
      repository: https://git.example/flows.git
      credentials: "{{{{ prefect.blocks.github-credentials.reader }}}}"
  - prefect.deployments.steps.set_working_directory:
      directory: "{{{{ clone.directory }}}}"
build: null
push: []
deployments:
  - name: everything
    entrypoint: flows.py:sales
    version: "7"
    description: Sales of a day
    tags: *tags
    parameters: {{day: 2026-01-01, regions: [north, south], options: {{depth: 2}}}}
    enforce_parameter_schema: true
    paused: true
    concurrency_limit: {{limit: 2, collision_strategy: CANCEL_NEW, grace_period_seconds: 120}}
    work_pool:
      <<: *pool
      work_queue_name: urgent
      job_variables: {{image: "flows:7", env: {{RUN: "{{{{ ctx.flow_run.name }}}}"}}}}
    schedules:
      - *mornings
      - slug: hourly
        interval: 3600
        anchor_date: "2026-01-01T00:30:00+02:00"
        timezone: Europe/Berlin
        active: false
        parameters: {{day: 2026-01-02}}
      - slug: precise
        interval: PT1H30M
        anchor_date: "2026-01-01T00:00:00Z"
      - slug: rule
        rrule: FREQ=WEEKLY;BYDAY=MO
        timezone: Asia/Tokyo
      - slug: rule-as-json
        rrule: '{{"rrule": "DTSTART:20260101T070000\\nRRULE:FREQ=DAILY", "timezone": "UTC"}}'
  - name: little
    entrypoint: flows.py:sales
    work_pool: *pool
  - name: asynchronous
    entrypoint: flows.py:collect
    concurrency_limit: 3
    enforce_parameter_schema: false
    work_pool: *pool
    pull: []
  - name: method
    entrypoint: flows.py:Reports.weekly
    work_pool: *pool
    pull:
      prefect.deployments.steps.set_working_directory:
        directory: /opt/prefect
  - name: module
    entrypoint: flows.sales
    work_pool: *pool
"""


def with_parsed_anchor(schedule: dict[str, Any]) -> dict[str, Any]:
    """Return the schedule with its anchor parsed, so that UTC offsets make no difference."""
    if "anchor_date" not in schedule:
        return schedule
    return {**schedule, "anchor_date": dt.datetime.fromisoformat(schedule["anchor_date"])}


def comparable(client: SyncPrefectClient) -> dict[str, dict[str, Any]]:
    """Return all deployments, without the fields that differ between any two servers."""
    times_and_ids = {"id", "created", "updated", "flow_id", "work_queue_id", "deployment_id"}
    deployments = {}
    for each in prefect_api.pages(client, "/deployments/filter"):
        limit = each["global_concurrency_limit"]
        deployments[each["name"]] = {
            **{key: value for key, value in each.items() if key not in times_and_ids},
            "labels": sorted(each["labels"].keys() - deployment_models.LABELS.keys()),
            "global_concurrency_limit": limit and limit["limit"],
            "schedules": sorted(
                (
                    {
                        **{key: schedule[key] for key in schedule.keys() - times_and_ids},
                        "schedule": with_parsed_anchor(schedule["schedule"]),
                    }
                    for schedule in each["schedules"]
                ),
                key=lambda schedule: str(schedule["slug"]),
            ),
        }
    return deployments


def test_deployments_are_the_same_as_those_of_prefect_deploy(
    client: SyncPrefectClient, flows: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = flows / "prefect.yaml"
    file.write_text(EVERYTHING)

    apply(client, prefect_yaml.declare(read(file), Offline()))
    ours = comparable(client)
    home = tmp_path_factory.mktemp("other")
    with prefect_server(home) as url, SyncPrefectClient(url) as other:
        create_pool(other)
        subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=flows,
            env=clean_environment(home, PREFECT_API_URL=url),
            check=True,
            capture_output=True,
        )
        theirs = comparable(other)

    assert set(ours) == {"everything", "little", "asynchronous", "method", "module"}
    for name in ours:
        assert ours[name] == theirs[name]
    assert ours.keys() == theirs.keys()


def test_applied_deployments_are_read_back_as_declared(
    client: SyncPrefectClient, flows: Path
) -> None:
    file = flows / "prefect.yaml"
    file.write_text(EVERYTHING)
    declared = prefect_yaml.declare(read(file), Offline())

    found = apply(client, declared)

    for each in declared:
        assert compared(each, found[each.key.name]) == each.body


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=deployment_entries(), after=deployment_entries())
def test_any_entry_is_read_back_as_declared_whatever_was_there_before(
    client: SyncPrefectClient, flows: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    for each in (before, after, after):
        (declared,) = declare(flows, {**each, "name": "any"})

        found = apply(client, [declared])[declared.key.name]

        assert compared(declared, found) == declared.body


def test_an_empty_list_of_schedules_removes_all_schedules(
    client: SyncPrefectClient, flows: Path
) -> None:
    apply(client, declare(flows, entry(schedules=[cron("early", 6)])))

    found = apply(client, declare(flows, entry(schedules=[])))

    assert served(client, found["sales/daily"])["schedules"] == []


def test_a_schedule_added_by_hand_is_removed(client: SyncPrefectClient, flows: Path) -> None:
    (declared,) = declare(flows, entry(schedules=[cron("early", 6)]))
    found = apply(client, [declared])["sales/daily"]
    by_hand = [{"schedule": {"cron": "0 7 * * *"}}, {"schedule": {"interval": 60}, "slug": "b"}]
    client.request(
        "POST", "/deployments/{id}/schedules", path_params={"id": found.id}, json=by_hand
    )

    (changed,) = Deployments().read(client, Inventory())
    assert compared(declared, changed) != declared.body
    found = apply(client, [declared])["sales/daily"]

    assert [each["slug"] for each in served(client, found)["schedules"]] == ["early"]


def pause(client: SyncPrefectClient, found: Found, slug: str) -> None:
    (schedule,) = [each for each in served(client, found)["schedules"] if each["slug"] == slug]
    client.request(
        "PATCH",
        "/deployments/{id}/schedules/{schedule_id}",
        path_params={"id": found.id, "schedule_id": schedule["id"]},
        json={"active": False},
    )


def active(client: SyncPrefectClient, found: Found) -> dict[str, bool]:
    return {each["slug"]: each["active"] for each in served(client, found)["schedules"]}


def test_a_schedule_paused_by_hand_stays_paused(client: SyncPrefectClient, flows: Path) -> None:
    (declared,) = declare(flows, entry(schedules=[cron("early", 6), cron("late", 22)]))
    found = apply(client, [declared])["sales/daily"]
    pause(client, found, "early")

    (paused,) = Deployments().read(client, Inventory())
    assert compared(declared, paused) == declared.body, "a paused schedule is not a difference"
    changed = declare(flows, entry(schedules=[cron("early", 7), cron("late", 22), cron("new", 1)]))
    found = apply(client, changed)["sales/daily"]

    assert active(client, found) == {"early": False, "late": True, "new": True}


def test_active_in_the_file_overrides_a_pause_by_hand(
    client: SyncPrefectClient, flows: Path
) -> None:
    (declared,) = declare(flows, entry(schedules=[cron("early", 6, active=True)]))
    found = apply(client, [declared])["sales/daily"]
    pause(client, found, "early")

    (paused,) = Deployments().read(client, Inventory())
    assert compared(declared, paused) != declared.body
    found = apply(client, [declared])["sales/daily"]

    assert active(client, found) == {"early": True}


def test_a_deployment_paused_by_hand_stays_paused(client: SyncPrefectClient, flows: Path) -> None:
    found = apply(client, declare(flows, entry()))["sales/daily"]
    client.request(
        "PATCH", "/deployments/{id}", path_params={"id": found.id}, json={"paused": True}
    )

    found = apply(client, declare(flows, entry(description="changed")))["sales/daily"]

    assert served(client, found)["paused"] is True
    assert served(client, found)["description"] == "changed"
    found = apply(client, declare(flows, entry(paused=False)))["sales/daily"]
    assert served(client, found)["paused"] is False


def test_a_change_keeps_late_runs_and_reschedules_future_ones(
    client: SyncPrefectClient, flows: Path
) -> None:
    both = [cron("kept", 6), cron("dropped", 22)]
    found = apply(client, declare(flows, entry(schedules=both)))["sales/daily"]
    now = dt.datetime.now(dt.UTC)
    schedule_from(client, found, now - dt.timedelta(days=2))
    schedule_from(client, found, now)
    late = {run["id"] for run in runs(client, found) if run["expected_start_time"] < f"{now:%FT%T}"}
    assert late

    found = apply(client, declare(flows, entry(schedules=both[:1])))["sales/daily"]

    after = runs(client, found)
    assert late <= {run["id"] for run in after}
    future = [run for run in after if run["id"] not in late]
    assert {run["created_by"]["display_value"] for run in future} <= {"kept"}


def test_deleting_a_deployment_deletes_only_its_runs_that_have_not_started(
    client: SyncPrefectClient, flows: Path
) -> None:
    found = apply(client, declare(flows, entry(schedules=[cron("early", 6)])))["sales/daily"]
    schedule_from(client, found, dt.datetime.now(dt.UTC) - dt.timedelta(days=2))
    flow = {"id": {"any_": [served(client, found)["flow_id"]]}}
    done = client.request(
        "POST",
        "/deployments/{id}/create_flow_run",
        path_params={"id": found.id},
        json={"state": {"type": "COMPLETED"}},
    ).json()["id"]

    Deployments().delete(client, found)
    Deployments().delete(client, found)

    assert Deployments().read(client, Inventory()) == []
    left = list(prefect_api.pages(client, "/flow_runs/filter", {"flows": flow}))
    assert [run["id"] for run in left if run["deployment_id"] == str(found.id)] == [done]


def test_a_limit_shared_by_hand_is_detached_and_not_deleted(
    client: SyncPrefectClient, flows: Path
) -> None:
    shared = {"name": "warehouse", "limit": 4}
    limit = client.request("POST", "/v2/concurrency_limits/", json=shared).json()["id"]
    (declared,) = declare(flows, entry())
    found = apply(client, [declared])["sales/daily"]
    client.request(
        "PATCH",
        "/deployments/{id}",
        path_params={"id": found.id},
        json={"global_concurrency_limit_id": limit},
    )

    (changed,) = Deployments().read(client, Inventory())
    assert changed.body["concurrency_limit"] == "warehouse"
    found = apply(client, [declared])["sales/daily"]

    assert served(client, found)["global_concurrency_limit"] is None
    path = {"id_or_name": "warehouse"}
    left = client.request("GET", "/v2/concurrency_limits/{id_or_name}", path_params=path)
    assert left.json()["limit"] == 4


def test_all_pages_are_read(
    client: SyncPrefectClient, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = declare(
        flows,
        *[entry(f"{number}") for number in range(4)],
        *[
            entry(f"{number}", entrypoint="flows.py:Reports.weekly", parameters={})
            for number in range(4)
        ],
    )
    monkeypatch.setattr(prefect_api, "_PAGE", 3)

    found = apply(client, declared)

    assert set(found) == {each.key.name for each in declared}


def test_an_existing_deployment_is_adopted_and_keeps_its_id(
    client: SyncPrefectClient, flows: Path
) -> None:
    flow = client.request("POST", "/flows/", json={"name": "sales"}).json()["id"]
    theirs = client.request(
        "POST", "/deployments/", json={"name": "daily", "flow_id": flow, "tags": ["theirs"]}
    ).json()

    (declared,) = declare(flows, entry())
    found = apply(client, [declared])["sales/daily"]

    assert str(found.id) == theirs["id"]
    assert served(client, found)["labels"]["prefect-platform/managed"] == "true"
    assert compared(declared, found) == declared.body
