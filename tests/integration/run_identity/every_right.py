"""A flow that uses every right that a run has, and each kind of grant."""

import os
import time
from uuid import UUID

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.blocks.system import Secret
from prefect.concurrency.sync import concurrency, rate_limit
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.variables import Variable


@task(tags=["tagged"], persist_result=True)
def add_one(number: int) -> int:
    get_run_logger().info("a line of a task")
    emit_event("number.added", resource={"prefect.resource.id": f"number.{number}"})
    rate_limit("no-limit-of-this-name")
    return number + 1


@task
def named() -> State[None]:
    return Completed(name="Done by hand")


@flow
def below(number: int) -> int:
    return add_one(number)


@flow(persist_result=True, log_prints=True)
def every_right() -> int:
    """Take longer than a token is valid, and use everything that a run may use."""
    total: int = sum(add_one.map([1, 2]).result()) + below(3)
    named()
    create_markdown_artifact("report", key="report")
    progress = create_progress_artifact(0.0, key="progress")
    assert isinstance(progress, UUID)
    with concurrency("theirs", occupy=1):
        time.sleep(float(os.environ["SECONDS"]))
    update_progress_artifact(progress, 100.0)
    assert Variable.get("theirs") == "of-the-variable"
    for position in (1, 2):  # created, then changed
        Variable.set("position", position, overwrite=True)
        assert Variable.get("position") == position
    assert Variable.unset("position")
    secret = Secret.load("theirs")
    assert isinstance(secret, Secret)
    assert secret.get() == "of-the-block"
    emit_event("order.arrived", resource={"prefect.resource.id": f"order.{flow_run.id}"})
    run_deployment("ours/default", timeout=0)
    print(f"ended {flow_run.name} of {flow_run.flow_name}")  # noqa: T201
    return total
