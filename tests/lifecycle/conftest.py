"""Real kind clusters, each in its own engine; the clusters of users are never touched."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine.packages import ensure_engine_programs
from prefect_platform_cli.cluster.node_image.node_image import node_image
from prefect_platform_cli.host.debian import ensure_packages
from prefect_platform_cli.host.toolchain import tool
from tests.lifecycle.resident import Machine, Resident
from tests.support.requirements import skip_without_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests, saying why, on machines that cannot run a private engine."""
    skip_without_root(items, Path(__file__).parent)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Yield this machine, with all caches filled and a state folder that only the tests use."""
    ensure_packages("nftables", "iptables")  # a snapshot reads the firewall with them
    ensure_engine_programs()
    node_image()
    tool("kind")
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        patch.delenv("DOCKER_HOST", raising=False)
        patch.delenv("KUBECONFIG", raising=False)
        yield Machine(state)


@pytest.fixture(scope="session")
def resident(machine: Machine) -> Iterator[Resident]:
    """Create one cluster of two nodes with a small workload, and remove it at the end."""
    cluster = Resident(machine, f"lifecycle-{os.getpid()}", nodes=2)
    try:
        cluster.provider.create()
        cluster.deploy_workload()
        yield cluster
    finally:
        cluster.provider.delete()


@pytest.fixture
def new_cluster(machine: Machine) -> Iterator[Callable[[], Resident]]:
    """Yield a function that returns a cluster to create; it is removed after the test."""
    made: list[Resident] = []

    def make() -> Resident:
        made.append(Resident(machine, f"lifecycle-{os.getpid()}-new-{len(made)}", nodes=1))
        return made[-1]

    yield make
    for cluster in made:
        cluster.provider.delete()
