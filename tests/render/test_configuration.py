"""The configuration's Jobs end, even if something in them hangs, and know what they apply."""

import pytest

from prefect_platform.configuration.core.lock import _WAIT_SECONDS
from prefect_platform.configuration.deployments.flow_loader import _LIMIT_OF_ALL
from tests.support.rendering import STORIES, find, objects

_API = 900
_CHECKSUM = "prefect-platform/configuration-checksum"


def test_the_jobs_have_a_deadline_that_leaves_time_for_every_wait_of_the_program() -> None:
    rendered = objects(STORIES["worker-local"].with_values({"configuration.timeoutSeconds": _API}))
    install = find(rendered, "Job", "configuration")["spec"]
    repeated = find(rendered, "CronJob", "configuration")["spec"]["jobTemplate"]["spec"]

    assert repeated["activeDeadlineSeconds"] > _API + _WAIT_SECONDS + _LIMIT_OF_ALL
    assert install["activeDeadlineSeconds"] > repeated["activeDeadlineSeconds"]


def checksum(values: dict[str, object]) -> str:
    """Return the checksum that the ConfigMap and the pods of both owners have."""
    rendered = objects(STORIES["worker-configuration"].with_values(values))
    job = find(rendered, "Job", "configuration")["spec"]["template"]
    repeated = find(rendered, "CronJob", "configuration")["spec"]["jobTemplate"]["spec"]["template"]
    (mounted,) = {
        find(rendered, "ConfigMap", "configuration")["data"]["checksum"],
        *(pod["metadata"]["annotations"][_CHECKSUM] for pod in (job, repeated)),
    }
    return str(mounted)


@pytest.mark.parametrize(
    "change",
    [
        {"configuration.platform": "work_pools: {}\n"},
        {"jobs.image.tag": "another"},
        {"secretVersions.configuration": "2"},
    ],
    ids=str,
)
def test_each_upgrade_that_changes_what_is_applied_has_a_checksum_of_its_own(
    change: dict[str, object],
) -> None:
    assert checksum(change) != checksum({})
