"""A cluster does what users expect of kind, recovers from failures, and is deleted completely."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pytest_kind.cluster import KindCluster

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.cluster.node_image.image_archive import write_layer
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool
from tests.lifecycle.resident import Resident, eventually
from tests.support.host_snapshot import difference
from tests.support.power import lose_power

NewCluster = Callable[[], Resident]


def _content_of_the_volume(cluster: Resident) -> str:
    return cluster.kubectl("exec", "first", "--", "cat", "/data/kept")


def _containers(cluster: Resident) -> list[str]:
    return sorted(cluster.docker("ps", "--quiet", "--no-trunc").split())


def _has_nodes(cluster: Resident) -> bool:
    return bool(cluster.docker("ps", "--quiet"))


# Features of a running cluster


def test_every_node_is_ready(resident: Resident) -> None:
    expected = [f"{resident.name}-control-plane", f"{resident.name}-worker"]
    assert resident.ready_nodes() == expected


def test_the_default_storage_class_provisions_a_volume_that_a_pod_writes_to(
    resident: Resident,
) -> None:
    assert _content_of_the_volume(resident) == "precious"
    phase = "--output=jsonpath={.status.phase}"
    assert resident.kubectl("get", "persistentvolumeclaim/kept", phase) == "Bound"


def test_pods_on_different_nodes_reach_each_other_by_address_service_and_name(
    resident: Resident,
) -> None:
    node = "--output=jsonpath={.spec.nodeName}"
    first, second = (resident.kubectl("get", "pod", pod, node) for pod in ("first", "second"))
    assert first != second
    pod = resident.kubectl("get", "pod/first", "--output=jsonpath={.status.podIP}")
    service = resident.kubectl("get", "service/first", "--output=jsonpath={.spec.clusterIP}")
    for host in (f"{pod}:8080", service, "first", "first.default.svc.cluster.local"):
        fetch = ("wget", "-q", "-O-", f"http://{host}/kept")
        assert eventually(partial(resident.kubectl, "exec", "second", "--", *fetch)) == "precious"


def test_names_outside_the_cluster_are_resolved_by_the_engine(resident: Resident) -> None:
    name = f"{resident.name}-worker"
    found = resident.kubectl("exec", "second", "--", "nslookup", f"{name}.")
    assert resident.addresses()[name] in found


def test_metrics_of_every_node_are_available(resident: Resident) -> None:
    def rows() -> list[str]:
        printed = resident.kubectl("top", "nodes", "--no-headers").splitlines()
        assert len(printed) == 2
        assert not any("<unknown>" in row for row in printed)
        return printed

    assert sorted(row.split()[0] for row in eventually(rows, 90)) == resident.ready_nodes()


def test_kind_docker_kubectl_and_pytest_kind_find_the_cluster(
    resident: Resident, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in resident.provider.environment().items():
        monkeypatch.setenv(name, os.path.expandvars(value))
    assert run(["kind", "get", "clusters"], failure="", next_step="").split() == [resident.name]
    names = run(["docker", "ps", "--format={{.Names}}"], failure="", next_step="").split()
    nodes = run(["kubectl", "get", "nodes", "--output=name"], failure="", next_step="").split()
    assert sorted(nodes) == sorted(f"node/{name}" for name in names)

    monkeypatch.chdir(tmp_path)  # pytest-kind writes to the working directory
    before = _containers(resident)
    reused = KindCluster(
        resident.name,
        kubeconfig=resident.provider.kubeconfig(),
        kind_path=tool("kind"),
        kubectl_path=tool("kubectl"),
    )
    reused.create()
    assert _containers(resident) == before
    assert "precious" in reused.kubectl("get", "configmap/kept", "--output=jsonpath={.data.word}")


def test_every_image_of_an_archive_is_loaded_onto_every_node_once(
    resident: Resident, tmp_path: Path
) -> None:
    references = [f"prefect-platform.local/{name}:v1" for name in ("one", "two")]
    for reference in references:
        (tmp_path / "file").write_text(reference)
        write_layer(tmp_path / "layer.tar", {"file": tmp_path / "file"})
        resident.docker("import", str(tmp_path / "layer.tar"), reference)
    resident.docker("save", "--output", str(tmp_path / "both.tar"), *references)

    assert resident.provider.load_images(tmp_path / "both.tar", references)
    assert not resident.provider.load_images(tmp_path / "both.tar", references)
    for node in resident.ready_nodes():
        held = resident.docker("exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q").split()
        assert set(references) <= set(held)


# Repeated commands, maintenance and failures


def test_a_second_create_changes_nothing(resident: Resident) -> None:
    before = _containers(resident)
    assert not resident.provider.create()
    assert not KindProvider(resident.name).create()
    assert _containers(resident) == before


def test_a_changed_number_of_nodes_is_refused(resident: Resident) -> None:
    with pytest.raises(PlatformError, match=r"has 2 nodes, not 3, and kind cannot change that"):
        KindProvider(resident.name, nodes=3).create()
    assert len(_containers(resident)) == 2


def test_a_lost_kubeconfig_is_written_again(resident: Resident) -> None:
    resident.provider.kubeconfig().unlink()
    status = resident.provider.status()
    assert not status.running
    assert "make deploy-cluster restores it" in dict(status.facts)["kubeconfig"]

    assert resident.provider.create()
    assert len(resident.ready_nodes()) == 2
    assert resident.provider.status().running


def test_a_node_can_be_drained_and_used_again(resident: Resident) -> None:
    node = resident.kubectl("get", "pod/second", "--output=jsonpath={.spec.nodeName}")
    drain = ("drain", node, "--ignore-daemonsets", "--force", "--delete-emptydir-data")
    resident.kubectl(*drain, "--timeout=60s")
    unschedulable = "--output=jsonpath={.spec.unschedulable}"
    assert resident.kubectl("get", "node", node, unschedulable) == "true"
    assert resident.kubectl("get", "pods", "--output=name") == "pod/first"

    resident.kubectl("uncordon", node)
    resident.deploy_workload()
    where = resident.kubectl("get", "pod/second", "--output=jsonpath={.spec.nodeName}")
    assert where == node


def test_a_killed_node_is_restarted_with_the_same_address(resident: Resident) -> None:
    addresses = resident.addresses()
    resident.docker("kill", f"{resident.name}-worker")
    assert "stopped" in dict(resident.provider.status().facts)["node"]

    assert resident.provider.create()
    assert len(resident.ready_nodes()) == 2
    assert resident.addresses() == addresses


def test_a_cluster_is_restored_with_its_data_after_a_machine_crash(
    resident: Resident,
) -> None:
    addresses = resident.addresses()
    lose_power(resident.engine)
    assert not resident.provider.status().running

    assert resident.provider.create()
    assert len(resident.ready_nodes()) == 2
    assert resident.addresses() == addresses
    word = resident.kubectl("get", "configmap/kept", "--output=jsonpath={.data.word}")
    assert word == "precious"
    # The pod `first` was not created again, and no status from before the crash remains.
    assert resident.kubectl("wait", "--for=condition=Ready", "pod/first", "--timeout=120s")
    assert _content_of_the_volume(resident) == "precious"


# Interrupted creation and deletion


def test_an_interrupted_creation_is_completed_by_the_next_one(new_cluster: NewCluster) -> None:
    cluster = new_cluster()
    cluster.interrupt_creation(after="Start a private Docker engine")
    cluster.interrupt_creation(after="Load the node image", when=lambda: _has_nodes(cluster))
    cluster.interrupt_creation(after="Create the kind cluster")

    assert cluster.provider.create()
    assert cluster.ready_nodes() == [f"{cluster.name}-control-plane"]
    assert not cluster.provider.create()


def test_deleting_a_cluster_whose_creation_crashed_leaves_nothing_behind(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster()
    cluster.interrupt_creation(after="Load the node image", when=lambda: _has_nodes(cluster))
    lose_power(cluster.engine)
    shutil.rmtree(cluster.provider.kubeconfig().parent)

    cluster.provider.delete()
    assert difference(cluster.before, cluster.snapshot()) == []


def test_deleting_a_cluster_once_or_twice_leaves_nothing_behind(
    resident: Resident,
) -> None:
    resident.provider.delete()
    assert difference(resident.before, resident.snapshot()) == []
    assert not resident.provider.status().running

    resident.provider.delete()
    assert difference(resident.before, resident.snapshot()) == []
