"""A node out of service: nothing new goes there, what finds no place is shown with the reason."""

from collections.abc import Iterator

import pytest

from prefect_platform_cli.reports import print_status
from tests.lifecycle.resident import Resident

_NAMESPACE = "data"  # one of the platform's, whose pods the status shows
_WAITING = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {_NAMESPACE}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: waiting, namespace: {_NAMESPACE}}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
    - name: waits
      image: prefect-platform.local/node-tools:v1
      command: [sleep, infinity]
"""


@pytest.fixture
def cordoned(resident: Resident) -> Iterator[str]:
    """Take the one worker out of service, and return its name."""
    node = f"{resident.name}-worker"
    resident.kubectl("cordon", node)
    try:
        yield node
    finally:
        resident.kubectl("uncordon", node)
        resident.kubectl("delete", "namespace", _NAMESPACE, "--ignore-not-found")


def test_a_cordoned_node_keeps_its_pods_and_gets_none_until_it_is_back(
    resident: Resident,
    cordoned: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    pod = ("pod/waiting", f"--namespace={_NAMESPACE}")
    resident.kubectl("apply", "--filename=-", stdin=_WAITING)
    resident.kubectl("wait", *pod, "--for=condition=PodScheduled=false", "--timeout=60s")
    print_status(resident.provider)
    out_of_service = capsys.readouterr().out

    resident.kubectl("uncordon", cordoned)
    resident.kubectl("wait", *pod, "--for=condition=Ready", "--timeout=120s")
    print_status(resident.provider)
    back = capsys.readouterr().out

    assert f"{cordoned}: Ready, cordoned" in out_of_service
    # The control plane is free, but it takes pods of the platform only when it is alone.
    reason = "pod/waiting in data: Unschedulable: 0/2 nodes are available"
    assert reason in out_of_service
    assert "1 node(s) had untolerated taint" in out_of_service
    assert "1 node(s) were unschedulable" in out_of_service
    assert "cordoned" not in back
    assert "pod/waiting" not in back
    where = "--output=jsonpath={.spec.nodeName} {.status.phase}"
    assert resident.kubectl("get", *pod, where) == f"{cordoned} Running"
    assert resident.kubectl("get", "pod/second", where) == f"{cordoned} Running"
