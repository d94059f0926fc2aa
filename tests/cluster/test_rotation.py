"""A deploy rotates the Secrets of the whole platform without disturbing a run."""

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from kubernetes import client as kubernetes_client
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.connection import connected, forwarded
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import (
    HEARING,
    Platform,
    command,
    deploy_code,
    eventually,
    final,
    messages,
    put_secret,
    read_secret,
    run_etl,
    tell,
)
from tests.support import documented

# Calls the API with a new client every second until the rotation is over.
_LONG = f"""{HEARING}
import time
from prefect import flow

@flow(log_prints=True)
def through_a_rotation():
    print("begun")
    end = time.monotonic() + 900
    while not told("over"):
        if time.monotonic() > end:
            raise TimeoutError("the rotation is not over after 900 s")
        time.sleep(1)
"""
# Deleted, so that deploy creates new ones. test_deploy.py rotates those of the object store.
_ROTATED = {
    "prefect": ("prefect-auth", "prefect-database", "prefect-encryption"),
    "data": ("warehouse", "result-locks"),
}
_PREVIOUS = ("prefect-auth", "prefect-encryption")
_DATABASES = {
    "prefect": ("prefect-database", "prefect-server-database", "prefect"),
    "data": ("warehouse", "warehouse", "warehouse"),
}


@dataclass(frozen=True)
class Rotation:
    """The previous values, with passwords by namespace, and a run that began with them."""

    auth: str
    passwords: dict[str, str]
    run_id: UUID


@pytest.fixture(scope="module")
def rotation(platform: Platform) -> Rotation:
    """Rotate the Secrets in _ROTATED, and keep the previous values of those in _PREVIOUS."""
    kubectl = platform.kubectl
    before = Rotation(
        auth=only_value(kubectl, "prefect", "prefect-auth"),
        passwords={
            namespace: only_value(kubectl, namespace, secret)
            for namespace, (secret, _, _) in _DATABASES.items()
        },
        run_id=begin_long_run(kubectl),
    )
    for name in _PREVIOUS:
        put_secret(kubectl, "prefect", f"{name}-previous", read_secret(kubectl, "prefect", name))
    for namespace, names in _ROTATED.items():
        kubectl(f"--namespace={namespace}", "delete", "secret", *names)
    rotated = command("deploy")
    assert rotated.returncode == 0, rotated.stderr
    return before


def test_new_values_are_valid_and_existing_runs_and_blocks_keep_working(
    platform: Platform, rotation: Rotation
) -> None:
    kubectl = platform.kubectl
    assert only_value(kubectl, "prefect", "prefect-auth") != rotation.auth
    with connected(kubectl) as prefect:
        tell(prefect, rotation.run_id, "over")
        assert final(prefect, prefect.read_flow_run(rotation.run_id)).state_name == "Completed"
        assert run_etl(prefect, "2013-06-06").state_name == "Completed"
        assert block(prefect) == "written before"
        Secret(value="written after").save("rotation-test", overwrite=True)

    for namespace, (secret, _, _) in _DATABASES.items():
        connect_to_database(kubectl, namespace, only_value(kubectl, namespace, secret))
        with pytest.raises(PlatformError, match="password authentication failed"):
            connect_to_database(kubectl, namespace, rotation.passwords[namespace])


def test_previous_values_work_until_deleted_and_a_lost_key_is_restored_from_the_api(
    platform: Platform, rotation: Rotation, tmp_path: Path
) -> None:
    kubectl = platform.kubectl
    assert status_of_api(kubectl, rotation.auth) == httpx.codes.OK
    key = read_secret(kubectl, "prefect", "prefect-encryption")
    dropped = (f"{name}-previous" for name in _PREVIOUS)
    kubectl("--namespace=prefect", "delete", "secret", "prefect-encryption", *dropped)

    refused = command("deploy")
    bring_back = documented.block("operations/rotation.md", "### A lost key", "sh")
    brought_back = run(
        ["sh", "-euc", bring_back],
        failure="the documented command failed",
        next_step="look at the logs of the report",
        env={
            "HOME": str(tmp_path),
            "KUBECONFIG": str(kubectl.kubeconfig),
            "PATH": f"{tool('kubectl').parent}:/usr/bin:/bin",
        },
    )
    again = command("deploy")

    assert refused.returncode == 1
    assert "the Secret prefect-encryption is missing" in refused.stderr
    assert "next: restore the key" in refused.stderr
    assert brought_back == "secret/prefect-encryption created\n"
    assert read_secret(kubectl, "prefect", "prefect-encryption") == key
    assert again.returncode == 0, again.stderr
    labels = "--output=jsonpath={.metadata.labels}"
    adopted = kubectl("--namespace=prefect", "get", "secret", "prefect-encryption", labels)
    assert json.loads(adopted)["app.kubernetes.io/part-of"] == "prefect-platform"
    assert status_of_api(kubectl, rotation.auth) == httpx.codes.UNAUTHORIZED
    with connected(kubectl) as prefect:
        assert block(prefect) == "written after"


@pytest.mark.usefixtures("rotation")
def test_a_second_deploy_restarts_no_pod(platform: Platform) -> None:
    before = pods(platform.kubectl)

    again = command("deploy")

    assert again.returncode == 0, again.stderr
    assert "Nothing changed" in again.stdout
    assert pods(platform.kubectl) == before


def begin_long_run(kubectl: Kubectl) -> UUID:
    """Write a block, and start a run that keeps running until the end of the rotation."""
    with connected(kubectl) as prefect:
        Secret(value="written before").save("rotation-test", overwrite=True)
        deployment = deploy_code(prefect, "through_a_rotation", _LONG)
        run_id = prefect.create_flow_run_from_deployment(deployment).id
        eventually("the run has begun", lambda: "begun" in messages(prefect, run_id))
    return run_id


def block(prefect: SyncPrefectClient) -> object:
    document = prefect.read_block_document_by_name("rotation-test", "secret", include_secrets=True)
    return document.data["value"]


def only_value(kubectl: Kubectl, namespace: str, name: str) -> str:
    (value,) = read_secret(kubectl, namespace, name).values()
    return value


def connect_to_database(kubectl: Kubectl, namespace: str, password: str) -> None:
    """Connect as clients do; raise PlatformError with psql's message if the password is refused."""
    _, pod, user = _DATABASES[namespace]
    psql = f'PGPASSWORD="$(cat)" psql --host=127.0.0.1 --username={user} --command="SELECT 1"'
    within = (f"--namespace={namespace}", "exec", "--stdin", f"statefulset/{pod}", "--")
    kubectl(*within, "sh", "-c", psql, stdin=password)


def status_of_api(kubectl: Kubectl, auth: str) -> int:
    """Return the status code of a response of the API to a request with this auth string."""
    user, _, password = auth.partition(":")
    with forwarded(kubectl) as url:
        return httpx.get(f"{url}/api/admin/version", auth=(user, password)).status_code


def pods(kubectl: Kubectl) -> dict[str, int]:
    """Return the number of restarts of each pod of a workload, by its UID."""
    return {
        pod.metadata.uid: sum(each.restart_count for each in pod.status.container_statuses)
        for namespace in ("prefect", "prefect-workers", "data")
        for pod in kubernetes_client.CoreV1Api(kubectl.api()).list_namespaced_pod(namespace).items
        for owner in pod.metadata.owner_references or []
        if owner.kind in {"ReplicaSet", "StatefulSet"} and pod.metadata.deletion_timestamp is None
    }
