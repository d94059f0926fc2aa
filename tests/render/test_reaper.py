"""The reaper serves every pool of its release, and has only the permissions that it needs."""

import pytest

from prefect_platform.reaper.reaper import arguments_parser
from tests.support.rendering import STORIES, Object, Story, find, objects

POOLS = STORIES["worker-pools"]
PERIODS = {
    "grace": 7,
    "submission": 300,
    "unstartable": 1800,
    "silence": 600,
    "lost_node": 600,
    "end_silent": 86400,
    "hooks": 3600,
    "succeeded_job_ttl": 7200,
}


def arguments(story: Story) -> list[str]:
    """Return the arguments of the reaper's container."""
    job = find(objects(story), "CronJob", "reaper")["spec"]["jobTemplate"]["spec"]
    given: list[str] = job["template"]["spec"]["containers"][0]["args"]
    return given


def permissions(story: Story, pool: str) -> tuple[str, list[Object], list[Object]]:
    """Return namespace, rules and subjects of the reaper's Role for a pool."""
    role = find(objects(story), "Role", "reaper", pool=pool)
    binding = find(objects(story), "RoleBinding", "reaper", pool=pool)
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["metadata"]["namespace"] == role["metadata"]["namespace"]
    return role["metadata"]["namespace"], role["rules"], binding["subjects"]


def test_the_program_accepts_the_arguments_of_the_chart() -> None:
    story = POOLS.with_values(
        {
            "reaper.graceSeconds": 7,
            "reaper.endSilentSeconds": 86400,
            "retention.jobs.succeeded": "2h",
        }
    )
    parsed = arguments_parser().parse_args(arguments(story))

    assert parsed.pools == ["default=flows-default", "etl=flows-etl"]
    assert {key: each.total_seconds() for key, each in vars(parsed).items() if key in PERIODS} == (
        PERIODS
    )
    assert parsed.dry_run is False


@pytest.mark.parametrize("pool", ["default", "etl"])
def test_it_may_list_pods_and_events_and_delete_jobs_in_the_namespace_of_each_pool(
    pool: str,
) -> None:
    job = find(objects(POOLS), "CronJob", "reaper")
    account = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
    namespace = job["metadata"]["namespace"]

    assert permissions(POOLS, pool) == (
        f"flows-{pool}",
        [
            {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "delete"]},
        ],
        [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    )
    assert find(objects(POOLS), "ServiceAccount", "reaper")["metadata"]["name"] == account


def test_by_default_it_never_ends_a_run_whose_job_has_not_ended() -> None:
    assert arguments_parser().parse_args(arguments(POOLS)).end_silent is None


def test_in_a_dry_run_it_may_delete_nothing() -> None:
    story = POOLS.with_values({"reaper.dryRun": True})

    assert "--dry-run" in arguments(story)
    assert [rule["verbs"] for rule in permissions(story, "etl")[1]] == [["list"], ["get", "list"]]


def test_a_pass_never_prevents_the_next_one() -> None:
    spec = find(objects(POOLS.with_values({"reaper.graceSeconds": 900})), "CronJob", "reaper")[
        "spec"
    ]

    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] > 10  # with less, the controller may never start a Job
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 900
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0


def test_a_disabled_reaper_has_no_objects() -> None:
    rendered = objects(POOLS.with_values({"reaper.enabled": False}))

    assert not [
        item
        for item in rendered
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "reaper"
    ]
