"""A run waits for room as long as it takes; one that cannot start is ended, with the reason.

Prefect's server, the worker, the reaper, and Kubernetes' API server, Job controller and scheduler
are real. Only a kubelet is missing: the tests write what it says about images and Secrets.
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.polling import wait_until
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.integration.worker.worker_program import (
    POOL,
    WITHIN,
    prefect_server,
    scheduled_run,
    starting_worker,
)
from tests.support.control_plane import control_plane, controllers, scheduler
from tests.support.kubernetes_api import NAMESPACE
from tests.support.servers import clean_environment

PLENTY = 100
_STARTS_WITHIN = 300.0
_CREATES_AGAIN_WITHIN = 120.0  # seconds; the Job controller waits up to a minute
_FLOW = "from prefect import flow\n\n\n@flow\ndef flow():\n    pass\n"
_PERIODS = (
    *("--grace=0", "--submission=3600", "--silence=3600", "--lost-node=3600", "--hooks=3600"),
    "--succeeded-job-ttl=3600",
)
_ROOM = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "jobs", "namespace": NAMESPACE},
}
_NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}


@dataclass
class Platform:
    """A Prefect server with a worker, and a control plane with one node."""

    api_url: str
    kubectl: Kubectl
    home: Path

    def __post_init__(self) -> None:
        self.client = SyncPrefectClient(self.api_url)

    def set_quota(self, pods: int) -> None:
        """Let the namespace of the Jobs have so many pods."""
        quota = {**_ROOM, "spec": {"hard": {"pods": str(pods)}}}
        self.kubectl.apply(yaml.safe_dump(quota))

        def counted() -> bool:
            found = json.loads(self.kubectl("get", "resourcequota", "jobs", "--output=json"))
            return bool(found.get("status", {}).get("hard") == {"pods": str(pods)})

        assert wait_until(counted, WITHIN), "the controller does not compute the quota"

    def set_node(self, pods: int) -> None:
        """Let the node have so many pods."""
        status = {"status": {"allocatable": {"pods": str(pods), "cpu": "8", "memory": "8Gi"}}}
        patch = ("patch", "node", "node", "--subresource=status", f"--patch={json.dumps(status)}")
        self.kubectl(*patch)

    def enforce(self, standard: str) -> None:
        """Enforce a Pod Security Standard in the namespace of the Jobs."""
        label = f"pod-security.kubernetes.io/enforce={standard}"
        self.kubectl("label", "--overwrite", "namespace", NAMESPACE, label)

    def await_state(self, run: uuid.UUID, name: str, within: float = WITHIN) -> str:
        """Wait until the state of a run is `name`, and return its message."""
        assert wait_until(lambda: self.state(run)[0] == name, within), self.state(run)
        return self.state(run)[1]

    def state(self, run: uuid.UUID) -> tuple[str, str]:
        """Return the name and the message of a run's state."""
        state = self.client.read_flow_run(run).state
        assert state is not None
        return str(state.name), str(state.message)

    def await_scheduled_pod(self, run: uuid.UUID) -> str:
        """Wait until the pod of a run is on the node, and return its name."""
        names: list[str] = []

        def scheduled() -> bool:
            selector = f"--selector=prefect.io/flow-run-id={run}"
            items = json.loads(self.kubectl("get", "pods", selector, "--output=json"))["items"]
            names[:] = [each["metadata"]["name"] for each in items if "nodeName" in each["spec"]]
            return bool(names)

        assert wait_until(scheduled, _CREATES_AGAIN_WITHIN), self.state(run)
        return names[0]

    def set_waiting(self, pod: str, reason: str, message: str) -> None:
        """Say about the container of a pod that it waits, as the kubelet does."""
        status = {
            "name": "prefect-job",
            **{"image": "flows", "imageID": "", "ready": False, "restartCount": 0},
            "state": {"waiting": {"reason": reason, "message": message}},
        }
        body = json.dumps({"status": {"phase": "Pending", "containerStatuses": [status]}})
        self.kubectl("patch", "pod", pod, "--subresource=status", f"--patch={body}")

    def execute(self, run: uuid.UUID) -> None:
        """Execute a run as the command of its pod does."""
        subprocess.run(
            [sys.executable, "-m", "prefect", "flow-run", "execute", str(run)],
            env=clean_environment(self.home, PREFECT_API_URL=self.api_url),
            cwd=self.home,
            check=True,
        )

    def reap(self, unstartable: float) -> dict[str, int]:
        """Run the program of the reaper's pod, and return the counts of the pool."""
        program = (sys.executable, "-m", "prefect_platform.reaper.reaper", *_PERIODS)
        ended = subprocess.run(
            [*program, f"--unstartable={unstartable}", f"{POOL}={NAMESPACE}"],
            env=clean_environment(
                self.home,
                KUBECONFIG=str(self.kubectl.kubeconfig),
                PREFECT_API_URL=self.api_url,
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        counts: dict[str, int] = json.loads(ended.stderr.splitlines()[-1])["pools"][POOL]["counts"]
        return counts

    def jobs(self, run: uuid.UUID) -> str:
        """Return the names of the Jobs of a run."""
        selector = f"--selector=prefect.io/flow-run-id={run}"
        return self.kubectl("get", "jobs", selector, "--output=name")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform")
    (home / "flow.py").write_text(_FLOW)
    with ExitStack() as stack:
        kubectl = stack.enter_context(control_plane(home, "https://issuer"))
        kubectl.apply(yaml.safe_dump(_NODE))
        # The API server gives each new node this taint, and no controller removes it here.
        kubectl("taint", "node", "node", "node.kubernetes.io/not-ready-")
        names = ("job-controller", "resourcequota-controller")
        stack.enter_context(controllers(kubectl, home, *names))
        stack.enter_context(scheduler(kubectl, home))
        api_url = stack.enter_context(prefect_server(home))
        worker = stack.enter_context(starting_worker(api_url, kubectl, home / "worker", "worker"))
        assert wait_until(worker.health, _STARTS_WITHIN), worker.log.read_text()
        yield Platform(api_url, kubectl, home)


@pytest.fixture
def platform(running: Platform) -> Platform:
    """Return the platform with room for the run of the test."""
    running.set_quota(PLENTY)
    running.set_node(PLENTY)
    running.enforce("privileged")
    return running


@pytest.mark.parametrize(
    ("close", "state", "reason"),
    [
        (
            Platform.set_quota,
            "WaitingForQuota",
            " waits for room in its quota: exceeded quota: jobs, requested: pods=1, used: pods=0, "
            "limited: pods=0",
        ),
        (
            Platform.set_node,
            "WaitingForNode",
            " waits for a node: 0/1 nodes are available: 1 Too many pods.",
        ),
    ],
    ids=["quota", "node"],
)
def test_a_run_that_waits_for_room_says_so_and_completes_when_there_is_room(
    platform: Platform, close: Callable[[Platform, int], None], state: str, reason: str
) -> None:
    platform.kubectl("delete", "jobs", "--all", "--wait=false")
    platform.kubectl("delete", "pods", "--all", "--force")
    close(platform, 0)
    run = scheduled_run(platform.client)

    assert reason in platform.await_state(run, state)
    assert platform.reap(unstartable=0) == {}
    assert platform.state(run)[0] == state

    close(platform, PLENTY)
    platform.await_scheduled_pod(run)
    assert "Kubernetes pod is pending." in platform.await_state(run, "InfrastructurePending")
    platform.execute(run)
    assert platform.state(run)[0] == "Completed"


@pytest.mark.parametrize(
    ("reason", "message", "state", "sentence"),
    [
        (
            "ErrImagePull",
            'failed to pull and unpack image "docker.io/of/none:1": failed to resolve reference '
            '"docker.io/of/none:1": docker.io/of/none:1: not found',
            "ImageMissing",
            "The image of the pod {pod} does not exist: ErrImagePull: {message}",
        ),
        (
            "CreateContainerConfigError",
            'secret "none" not found',
            "ConfigMissing",
            "The pod {pod} needs a Secret or ConfigMap that does not exist: {message}",
        ),
    ],
    ids=["image", "secret"],
)
def test_a_run_whose_pod_cannot_start_is_ended_after_the_bound(
    platform: Platform, reason: str, message: str, state: str, sentence: str
) -> None:
    run = scheduled_run(platform.client)
    pod = platform.await_scheduled_pod(run)
    platform.await_state(run, "InfrastructurePending")
    platform.set_waiting(pod, reason, message)

    said = sentence.format(pod=f"{NAMESPACE}/{pod}", message=message)
    assert platform.await_state(run, state) == said
    assert platform.reap(unstartable=3600) == {}
    assert platform.reap(unstartable=0) == {"job_of_dead_run": 1, "run_unstartable": 1}
    assert platform.state(run)[0] == "Crashed"
    assert platform.state(run)[1].startswith(f"{said}. The run has been {state} for ")
    assert platform.jobs(run) == ""


def test_a_run_whose_image_cannot_be_pulled_at_the_moment_is_left_alone(
    platform: Platform,
) -> None:
    run = scheduled_run(platform.client)
    pod = platform.await_scheduled_pod(run)
    platform.await_state(run, "InfrastructurePending")
    away = 'Back-off pulling image "of/one:1": ErrImagePull: dial tcp 10.0.0.1:443: i/o timeout'
    platform.set_waiting(pod, "ImagePullBackOff", away)

    said = f"The pod {NAMESPACE}/{pod} waits for its image: ImagePullBackOff: {away}"
    assert platform.await_state(run, "WaitingForImage") == said
    assert platform.reap(unstartable=0) == {}


def test_a_run_whose_pod_is_refused_is_ended_after_the_bound(platform: Platform) -> None:
    platform.enforce("restricted")
    run = scheduled_run(platform.client)

    message = platform.await_state(run, "PodRefused")
    assert 'violates PodSecurity "restricted:latest"' in message
    assert platform.reap(unstartable=3600) == {}
    assert platform.reap(unstartable=0) == {"job_of_dead_run": 1, "run_unstartable": 1}
    assert platform.state(run)[0] == "Crashed"
    assert platform.state(run)[1].startswith(f"{message}. The run has been PodRefused for ")
    assert platform.jobs(run) == ""
