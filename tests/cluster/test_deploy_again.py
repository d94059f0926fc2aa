"""Deploys that change a running platform: during flow runs, and after an interruption."""

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from signal import SIGINT, SIGKILL, Signals

from kubernetes import client as kubernetes_client
from kubernetes import watch
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun

from prefect_platform_cli import main as cli
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.platform import deploy
from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.images.build import Image, build
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import (
    CLUSTER,
    DEPLOYMENT,
    JOBS,
    Platform,
    command,
    deploy_code,
    eventually,
    final,
    on_node,
)
from tests.cluster.terminal import PLATFORM, started

_WORKERS, _WORKER = "prefect-workers", "prefect-worker-default"
_BEGINS_WITHIN = 180  # seconds
_OPEN = ("--", "touch", "/tmp/open")  # noqa: S108 - in the job pod
_PATIENT = """
import pathlib, time
from prefect import flow

@flow
def patient():
    while not pathlib.Path("/tmp/open").exists():
        time.sleep(0.2)
"""


def test_active_runs_keep_their_image_and_new_runs_use_the_new_one(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    deployment = deploy_code(prefect, "patient", _PATIENT)
    under_way = prefect.create_flow_run_from_deployment(deployment)
    pod = pod_of(platform.kubectl, under_way)

    with another_flows_image() as image:
        new = prefect.create_flow_run_from_deployment(deployment)
        pod_of_new = pod_of(platform.kubectl, new)
        for each in (pod, pod_of_new):
            platform.kubectl(f"--namespace={JOBS}", "exec", each.metadata.name, *_OPEN)
        ended = [final(prefect, run) for run in (under_way, new)]

    assert pod_of_new.spec.containers[0].image == image
    assert pod.spec.containers[0].image != image
    assert [run.state_name for run in ended] == ["Completed", "Completed"]
    assert [run.run_count for run in ended] == [1, 1]
    assert pod_of(platform.kubectl, under_way).metadata.uid == pod.metadata.uid


def test_a_deploy_completes_what_an_interrupted_and_a_killed_one_began(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    day = "2013-10-10"
    platform.kubectl(f"--namespace={_WORKERS}", "delete", "deployment", _WORKER)

    interrupted = end_during_the_upgrade(platform.kubectl, SIGINT, DATE=day)
    end_during_the_upgrade(platform.kubectl, SIGKILL, DATE=day)
    assert statuses(platform.kubectl)["prefect-worker"] == "pending-upgrade"
    finished = command("deploy", DATE=day)

    assert "Interrupted. Run the same command again to continue from here." in interrupted
    assert "Traceback" not in interrupted
    assert finished.returncode == 0, finished.stderr
    assert f"s3://artifacts/etl-daily/{day}.parquet" in finished.stdout
    assert set(statuses(platform.kubectl).values()) == {"deployed"}
    assert [run.state_name for run in runs_of(prefect, day)] == ["Completed"]


@contextmanager
def another_flows_image() -> Iterator[str]:
    """Deploy the flows image under another name, as after a change in flows/, and yield it."""
    images, provider, day = build(cli._IMAGES), KindProvider(CLUSTER), dt.date(2013, 1, 1)
    (flows,) = (image.reference for image in images if image.name == "flows")
    another = f"{flows.rpartition(':')[0]}:another"
    on_node("ctr", "--namespace=k8s.io", "images", "tag", flows, another)
    changed = [
        replace(image, reference=another) if image.name == "flows" else image for image in images
    ]

    def deploy_images(loaded: Sequence[Image]) -> None:
        references = {image.name: image.reference for image in loaded}
        deploy(provider, references, day, loaded=loaded, accept_unenforced=False)

    try:
        deploy_images(changed)
        yield another
    finally:
        deploy_images(images)
        on_node("ctr", "--namespace=k8s.io", "images", "rm", another)


def pod_of(kubectl: Kubectl, run: FlowRun) -> kubernetes_client.V1Pod:
    """Wait until the container of a run's only pod has started, and return the pod."""
    core = kubernetes_client.CoreV1Api(kubectl.api())
    found: list[kubernetes_client.V1Pod] = []

    def has_started() -> bool:
        selector = f"prefect.io/flow-run-id={run.id}"
        found[:] = core.list_namespaced_pod(JOBS, label_selector=selector).items
        return any(pod.status.phase != "Pending" for pod in found)

    eventually(f"the pod of {run.name} has started", has_started)
    (pod,) = found
    return pod


def end_during_the_upgrade(kubectl: Kubectl, signal: Signals, **variables: str) -> str:
    """Run deploy, send `signal` when Helm starts to upgrade the worker, and return the output."""
    core = kubernetes_client.CoreV1Api(kubectl.api())
    selector = "owner=helm,name=prefect-worker,status=pending-upgrade"
    now = core.list_namespaced_secret(_WORKERS).metadata.resource_version
    with started([PLATFORM, "deploy"], **variables) as deploying:
        begun = watch.Watch().stream(
            core.list_namespaced_secret,
            _WORKERS,
            label_selector=selector,
            resource_version=now,
            timeout_seconds=_BEGINS_WITHIN,
        )
        seen = any(event["type"] == "ADDED" for event in begun)
        os.killpg(deploying.pid, signal)
        printed, _ = deploying.communicate()
    assert seen, f"deploy did not start to upgrade the worker: {printed}"
    assert deploying.returncode != 0, "the deploy ended before the signal"
    return printed


def statuses(kubectl: Kubectl) -> dict[str, str]:
    """Return the status of each release by its name, including unfinished ones."""
    return {release["name"]: release["status"] for release in installed(kubectl)}


def runs_of(prefect: SyncPrefectClient, day: str) -> list[FlowRun]:
    """Return the runs of the daily ETL for a day."""
    deployment = prefect.read_deployment_by_name(DEPLOYMENT)
    runs = prefect.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    )
    return [run for run in runs if run.parameters.get("date") == day]
