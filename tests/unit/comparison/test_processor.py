"""How the processor time of a node is divided among the parts of the cluster."""

import pytest

from bench.comparison.processor import BARE, Part, Reading, part_of, split

_JOB = {"batch.kubernetes.io/job-name": "job"}


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        ({**_JOB, "prefect.io/flow-run-id": "1"}, Part.JOBS),
        ({**_JOB, BARE: ""}, Part.JOBS),
        ({**_JOB, "app.kubernetes.io/component": "worker"}, Part.REST),
        ({"app.kubernetes.io/component": "api"}, Part.API),
        ({"component": "etcd"}, Part.ETCD),
        ({"k8s-app": "kube-dns"}, Part.REST),
    ],
)
def test_a_pod_belongs_to_the_part_that_its_labels_name(labels: dict[str, str], part: Part) -> None:
    assert part_of(labels) is part


def test_all_time_of_the_node_is_divided_and_none_twice() -> None:
    parts = {"api": Part.API, "etcd": Part.ETCD, "new": Part.API, "run": Part.JOBS}
    before = Reading(
        at=0,
        pods={"api": 10.0, "etcd": 5.0},
        all_pods=15.0,
        node=20.0,
        kubelet=2.0,
        machine=30.0,
    )
    after = Reading(
        at=10,
        # The pod of the run used 3 s until it was last seen, and 4 s in all.
        pods={"api": 12.0, "etcd": 6.0, "new": 1.0, "run": 3.0},
        all_pods=23.0,
        node=31.0,
        kubelet=3.0,
        machine=45.0,
        parts=parts,
    )

    used = split(before, after)

    assert {part: seconds for part, seconds in used.items() if seconds} == {
        Part.API: 3.0,
        Part.ETCD: 1.0,
        Part.JOBS: 4.0,
        Part.KUBELET: 1.0,
        Part.CONTAINERD: 2.0,
    }
    assert sum(used.values()) == after.node - before.node
