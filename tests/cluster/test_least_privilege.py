"""Privileges that flows, and users who can create pods in their namespace, do not get."""

import base64
import json
import re
from collections import defaultdict
from typing import Any

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while
from prefect_platform_cli.kube.names import NAMESPACES
from tests.cluster.deployed import (
    DEPLOYMENT,
    JOBS,
    Platform,
    final,
    may,
    on_node,
    restricted_pod,
)
from tests.support.image_users import USERS

# Prints what the process of a flow reaches of Kubernetes, then executes the run as usual. A failure
# other than a missing connection ends the process, because it would not prove a refusal.
_CURIOUS = """
import json, os, ssl, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(url):
    try:
        context = ssl._create_unverified_context()
        return urllib.request.urlopen(url, context=context, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        if isinstance(error.reason, (TimeoutError, ConnectionRefusedError)):
            return "no answer"
        raise

kubernetes = "https://kubernetes.default.svc"
namespace = "namespaces/flows-default"
wanted = {
    "secrets": f"{kubernetes}/api/v1/{namespace}/secrets",
    "pods": f"{kubernetes}/api/v1/{namespace}/pods",
    "jobs": f"{kubernetes}/apis/batch/v1/{namespace}/jobs",
    "prefect": os.environ["PREFECT_API_URL"] + "/health",
}
tries = {"token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")}
with ThreadPoolExecutor(len(wanted)) as pool:
    tries |= zip(wanted, pool.map(ask, wanted.values()))
print("found", json.dumps(tries), flush=True)
os.execvp("prefect", ["prefect", "flow-run", "execute"])
"""
_PRIVILEGES: dict[str, dict[str, Any]] = {
    "privileged": {"privileged": True},
    "escalation": {"allowPrivilegeEscalation": True},
    "capability": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
    "root": {"runAsUser": 0},
}


@pytest.mark.parametrize("privilege", _PRIVILEGES)
def test_a_privileged_pod_is_refused_in_the_namespace_of_flows(
    platform: Platform, privilege: str
) -> None:
    pod = restricted_pod(f"wants-{privilege}", JOBS, {"image": "none"})
    context = pod["spec"]["containers"][0]["securityContext"]
    context.update(_PRIVILEGES[privilege])
    if privilege == "privileged":
        del context["allowPrivilegeEscalation"]

    with pytest.raises(PlatformError, match='violates PodSecurity "restricted'):
        platform.kubectl("create", "--filename=-", stdin=json.dumps(pod))


def test_a_flow_has_no_token_and_cannot_reach_the_kubernetes_api(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    program = base64.b64encode(_CURIOUS.encode()).decode()
    deployment = prefect.read_deployment_by_name(DEPLOYMENT)
    run = prefect.create_flow_run_from_deployment(
        deployment.id,
        parameters={"date": "2013-04-01"},
        job_variables={
            "command": f"python -c 'import base64; exec(base64.b64decode(\"{program}\"))'"
        },
    )
    selector = f"--selector=prefect.io/flow-run-id={run.id}"

    state = final(prefect, run).state
    printed = platform.kubectl(f"--namespace={JOBS}", "logs", selector, "--tail=-1")
    found = next(line for line in printed.splitlines() if line.startswith("found "))

    assert state is not None
    assert state.is_completed(), state.message
    assert json.loads(found.removeprefix("found ")) == {
        "token": False,
        "secrets": "no answer",
        "pods": "no answer",
        "jobs": "no answer",
        "prefect": 200,
    }


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "delete"])
@pytest.mark.parametrize("resource", ["secrets", "pods", "jobs.batch", "configmaps"])
def test_the_service_account_of_flows_has_no_permissions(
    platform: Platform, verb: str, resource: str
) -> None:
    assert not may(platform.kubectl, f"{JOBS}:flow-run", verb, resource)


def test_the_service_account_of_the_worker_may_create_jobs(platform: Platform) -> None:
    # This shows that `may` detects a permission.
    assert may(platform.kubectl, "prefect-workers:prefect-worker-default", "create", "jobs.batch")


def test_kubernetes_refuses_a_job_of_the_worker_that_its_template_could_not_produce(
    platform: Platform,
) -> None:
    pod = restricted_pod("escapes", JOBS, {"image": "none"})["spec"]
    pod["priorityClassName"] = "system-node-critical"
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "escapes", "namespace": JOBS},
        "spec": {"template": {"spec": pod}},
    }
    worker = "--as=system:serviceaccount:prefect-workers:prefect-worker-default"

    with pytest.raises(PlatformError) as refused:
        platform.kubectl("create", worker, "--filename=-", stdin=json.dumps(job))

    for field in ("priorityClassName", "serviceAccountName", "containers[0].image"):
        assert f"spec.template.spec.{field}" in str(refused.value)
    assert "the work pool default does not allow what the Job has in" in str(refused.value)


def test_every_process_runs_with_the_user_id_of_its_image(platform: Platform) -> None:
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    services = USERS.items() - {("flows", USERS["flows"])}  # there may be no active run

    def differences() -> set[tuple[str, int]]:
        """Return undeclared pairs of image and user, and declared ones without a process."""
        users = users_of_pods()
        found = {
            (image_of(pod), user)
            for namespace in NAMESPACES
            for pod in core.list_namespaced_pod(namespace).items
            for user in users[pod.metadata.uid]
        }
        return (found - USERS.items()) | (services - found)

    # The container runtime is root in the cgroup of a pod while it starts a container or a probe.
    assert wait_while(differences, 60, every=1) == set()


def image_of(pod: kubernetes_client.V1Pod) -> str:
    """Return the name of the image of the pod's only container."""
    (container,) = pod.spec.containers
    return str(container.image).rpartition("/")[2].partition(":")[0]


def users_of_pods() -> defaultdict[str, set[int]]:
    """Return the actual user IDs of the processes of each pod, by the UID of the pod."""
    files = "/proc/[0-9]*/cgroup /proc/[0-9]*/status"
    # When a process ends meanwhile, its file is missing, which is an error for grep.
    lines = on_node("sh", "-c", f"grep -Es '/pod|^Uid:' {files} || true")
    pods = dict(re.findall(r"^/proc/(\d+)/cgroup:.*/pod([\da-f-]{36})", lines, re.MULTILINE))
    users = dict(re.findall(r"^/proc/(\d+)/status:Uid:\t\d+\t(\d+)", lines, re.MULTILINE))
    found: defaultdict[str, set[int]] = defaultdict(set)
    for process in pods.keys() & users.keys():
        found[pods[process]].add(int(users[process]))
    return found
