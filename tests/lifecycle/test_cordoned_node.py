"""A cordoned node keeps its pods, and the status says why a new pod cannot be scheduled."""

from collections.abc import Iterator

import pytest

from prefect_platform_cli.reports import print_status
from tests.lifecycle.resident import Resident

_NAMESPACE = "data"  # a namespace of the platform: the status shows its pods
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
    """Cordon the only worker node, and yield its name."""
    node = f"{resident.name}-worker"
    resident.kubectl("cordon", node)
    try:
        yield node
    finally:
        resident.kubectl("uncordon", node)
        resident.kubectl("delete", "namespace", _NAMESPACE, "--ignore-not-found")


def test_a_cordoned_node_keeps_its_pods_and_gets_no_new_ones_until_it_is_uncordoned(
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
    while_cordoned = capsys.readouterr().out

    resident.kubectl("uncordon", cordoned)
    resident.kubectl("wait", *pod, "--for=condition=Ready", "--timeout=120s")
    print_status(resident.provider)
    after_uncordon = capsys.readouterr().out

    assert f"{cordoned}: Ready, cordoned" in while_cordoned
    # The control plane has room, but runs pods of the platform only when it is the only node.
    reason = "pod/waiting in data: Unschedulable: 0/2 nodes are available"
    assert reason in while_cordoned
    assert "1 node(s) had untolerated taint" in while_cordoned
    assert "1 node(s) were unschedulable" in while_cordoned
    assert "cordoned" not in after_uncordon
    assert "pod/waiting" not in after_uncordon
    where = "--output=jsonpath={.spec.nodeName} {.status.phase}"
    assert resident.kubectl("get", *pod, where) == f"{cordoned} Running"
    assert resident.kubectl("get", "pod/second", where) == f"{cordoned} Running"
