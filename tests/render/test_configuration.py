"""The configuration's Jobs end, even if something in them hangs."""

from prefect_platform.configuration.core.lock import _WAIT_SECONDS
from prefect_platform.configuration.deployments.flow_loader import _LIMIT_OF_ALL
from tests.support.rendering import STORIES, find, objects

_API = 900


def test_the_jobs_have_a_deadline_that_leaves_time_for_every_wait_of_the_program() -> None:
    rendered = objects(STORIES["worker-local"].with_values({"configuration.timeoutSeconds": _API}))
    install = find(rendered, "Job", "configuration")["spec"]
    repeated = find(rendered, "CronJob", "configuration")["spec"]["jobTemplate"]["spec"]

    assert repeated["activeDeadlineSeconds"] > _API + _WAIT_SECONDS + _LIMIT_OF_ALL
    assert install["activeDeadlineSeconds"] > repeated["activeDeadlineSeconds"]
