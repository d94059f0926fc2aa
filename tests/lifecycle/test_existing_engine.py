"""A second cluster in an engine that already has a cluster and other content of the user."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.cluster.node_image.image_archive import write_layer
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.lifecycle.resident import Resident, eventually
from tests.support.host_snapshot import difference

_GUEST = "guest"
# A node image of an earlier version, which no cluster uses: it is removed with the cluster.
_SUPERSEDED = "prefect-platform.local/node:superseded"


@pytest.fixture
def theirs(resident: Resident, tmp_path: Path) -> Iterator[Resident]:
    """Add an image, a container, a volume and a network to the resident cluster's engine."""
    (tmp_path / "file").write_text("somebody's")
    write_layer(tmp_path / "layer.tar", {"file": tmp_path / "file"})
    for image in ("theirs:unused", "theirs:used", _SUPERSEDED):
        resident.docker("import", str(tmp_path / "layer.tar"), image)
    resident.docker("create", "--name=theirs", "--volume=theirs:/data", "theirs:used", "program")
    resident.docker("network", "create", "theirs")
    try:
        yield resident
    finally:
        resident.docker("rm", "theirs")
        resident.docker("network", "rm", "theirs")
        resident.docker("volume", "rm", "theirs")
        resident.docker("image", "rm", "theirs:unused", "theirs:used")


@pytest.fixture
def guest(
    theirs: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KindProvider]:
    """Yield a cluster to create in the same engine, as if the user had named that engine."""
    # A private engine is recognised by its address, so the test gives it a second address.
    address = tmp_path / "docker.sock"
    address.symlink_to(theirs.engine.docker_host.removeprefix("unix://"))
    monkeypatch.setenv("PATH", f"{theirs.engine.docker.parent}:{os.environ['PATH']}")
    provider = KindProvider(
        f"{_GUEST}-{os.getpid()}",
        engine="existing",
        node_image="build",
        docker_host=f"unix://{address}",
    )
    yield provider
    provider.delete()


def test_deleting_one_of_two_clusters_in_an_engine_does_not_affect_the_other(
    theirs: Resident, guest: KindProvider
) -> None:
    before = contents(theirs)

    guest.create()
    beside = contents(theirs)
    kubectl = Kubectl(guest.kubeconfig())
    node = kubectl("get", "nodes", "--output=name").strip()

    assert node == f"node/{_GUEST}-{os.getpid()}-control-plane"
    assert guest.status().running
    assert before <= beside
    assert served(theirs) == "precious"
    assert kubectl.api().configuration.host != theirs.addresses()["api"]

    guest.delete()

    assert difference(before, contents(theirs)) == [f"- image {_SUPERSEDED}"]
    assert not guest.kubeconfig().parent.exists()
    assert served(theirs) == "precious"
    assert not theirs.provider.create(), "the other cluster had to be repaired"


def served(cluster: Resident) -> str:
    """Return what the resident cluster's workload serves to a pod on another node."""
    fetch = ("wget", "-q", "-O-", "http://first/kept")
    return eventually(lambda: cluster.kubectl("exec", "second", "--", *fetch))


def contents(cluster: Resident) -> frozenset[str]:
    """Return one line for each object in the engine; for a container, with its start time."""
    containers = cluster.docker("ps", "--all", "--quiet", "--no-trunc").split()
    state = "--format=container {{.Name}} {{.Id}} {{.State.Status}} {{.State.StartedAt}}"
    listed = [
        cluster.docker("inspect", state, *containers),
        cluster.docker("image", "ls", "--format=image {{.Repository}}:{{.Tag}}"),
        cluster.docker("network", "ls", "--no-trunc", "--format=network {{.ID}} {{.Name}}"),
        cluster.docker("volume", "ls", "--format=volume {{.Name}}"),
    ]
    return frozenset(line for lines in listed for line in lines.splitlines())
