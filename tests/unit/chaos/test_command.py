"""`make chaos` names the faults, and touches nothing when it cannot inject what it is given."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.chaos.__main__ import main
from tests.chaos.faults import FAULTS, chosen, possible, require
from tests.chaos.target import Target


def test_without_a_fault_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("no-cluster", "") == 0
    assert capsys.readouterr().out.split("\n")[:-1] == list(FAULTS)


def test_an_unknown_fault_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(PlatformError, match="api-kiled is not a fault") as refused:
        main("no-cluster", "worker-killed+api-kiled")

    assert refused.value.next_step == f"choose from {', '.join(FAULTS)}"


def test_faults_of_different_parts_can_be_combined() -> None:
    faults = chosen("api-killed+database-killed+image-missing")

    assert [each.name for each in faults] == ["api-killed", "database-killed", "image-missing"]


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("api-killed+api-away", "both need deployment/prefect-server"),
        ("api-killed+api-killed", "both need deployment/prefect-server"),
        ("connections-exhausted+database-killed", "both need statefulset/prefect-server-database"),
        ("redis-out-of-memory+redis-killed", "both need statefulset/prefect-server-redis"),
        ("two-applies+api-away", "both need deployment/prefect-server"),
        ("image-missing+reaper-killed", "both need cronjob/prefect-worker-reaper"),
        ("node-killed+worker-killed", "both need deployment/prefect-worker-default"),
        ("none+api-killed", "none means that there is no fault"),
    ],
)
def test_faults_that_contradict_each_other_are_refused_with_the_reason(
    named: str, why: str
) -> None:
    one, other = named.split("+")

    with pytest.raises(
        PlatformError, match=f"{one} and {other} cannot be injected together: {why}"
    ):
        chosen(named)


@dataclass(frozen=True)
class Cluster(Target):
    """A cluster in mode single that has as many nodes as it is given."""

    count: int = 1

    def nodes(self) -> list[str]:
        return [f"node-{number}" for number in range(self.count)]

    def is_ha(self) -> bool:
        return False


def cluster(nodes: int) -> Cluster:
    return Cluster("small", Kubectl(Path("no-file")), nodes)


@pytest.mark.parametrize("count", [1, 3])
def test_a_fault_of_the_worker_node_is_refused_without_exactly_one(count: int) -> None:
    with pytest.raises(
        PlatformError, match=f"node-killed needs a cluster with 2 nodes, and small has {count}"
    ) as refused:
        require(cluster(count), chosen("node-killed"))

    assert refused.value.next_step is not None
    assert refused.value.next_step.startswith("make deploy-cluster NODES=2 ")


def test_a_schedule_draws_faults_of_the_worker_node_only_if_there_is_one() -> None:
    assert FAULTS["node-killed"] not in possible(cluster(1))
    assert FAULTS["node-killed"] in possible(cluster(2))
