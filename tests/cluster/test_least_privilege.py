"""What a flow, or who can make pods in its namespace, does not get."""

import base64
import json
from typing import Any

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.errors import PlatformError
from tests.cluster.deployed import DEPLOYMENT, JOBS, Platform, final, restricted_pod

# What a flow's process finds when it looks for Kubernetes; then the run goes on as always.
_CURIOUS = """
import json, os, ssl, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(what):
    group = "apis/batch/v1" if what == "jobs" else "api/v1"
    url = f"https://kubernetes.default.svc/{group}/namespaces/flows-default/{what}"
    try:
        context = ssl._create_unverified_context()
        return urllib.request.urlopen(url, context=context, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return "no answer"

tries = {"token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")}
wanted = ("secrets", "pods", "jobs")
with ThreadPoolExecutor(len(wanted)) as pool:
    tries |= zip(wanted, pool.map(ask, wanted))
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
def test_a_pod_that_asks_for_privilege_is_refused_where_flows_run(
    platform: Platform, privilege: str
) -> None:
    pod = restricted_pod(f"wants-{privilege}", JOBS, {"image": "none"})
    context = pod["spec"]["containers"][0]["securityContext"]
    context.update(_PRIVILEGES[privilege])
    if privilege == "privileged":
        del context["allowPrivilegeEscalation"]

    with pytest.raises(PlatformError, match='violates PodSecurity "restricted'):
        platform.kubectl("create", "--filename=-", stdin=json.dumps(pod))


def test_a_flow_has_no_token_and_gets_no_answer_from_the_kubernetes_api(
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
    }


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "delete"])
@pytest.mark.parametrize("resource", ["secrets", "pods", "jobs.batch", "configmaps"])
def test_the_service_account_of_flows_may_do_nothing(
    platform: Platform, verb: str, resource: str
) -> None:
    name, _, group = resource.partition(".")
    review = kubernetes_client.V1SubjectAccessReview(
        spec=kubernetes_client.V1SubjectAccessReviewSpec(
            user=f"system:serviceaccount:{JOBS}:flow-run",
            groups=["system:serviceaccounts", "system:authenticated"],
            resource_attributes=kubernetes_client.V1ResourceAttributes(
                namespace=JOBS, verb=verb, resource=name, group=group
            ),
        )
    )
    api = kubernetes_client.AuthorizationV1Api(platform.kubectl.api())

    assert not api.create_subject_access_review(review).status.allowed
