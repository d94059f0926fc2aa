"""The configuration for kind, and the failures that are handled without a running cluster."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster import kind
from prefect_platform_cli.cluster.engine.detection import EngineChoice, NodeImageChoice
from prefect_platform_cli.cluster.engine.engine import EngineKind, EngineStatus
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.cluster.node_image.node_image import NodeImage

_CLUSTER = "unit-test-of-kind"
_KIND = """#!/bin/sh
echo "kind $*" >>{calls}
config=$(echo "$*" | sed -n 's/.*--config \\([^ ]*\\).*/\\1/p')
test -z "$config" || cp "$config" {config}
echo "ERROR: failed to create cluster: the words of kind"
exit 1
"""
_DOCKER = '#!/bin/sh\necho "docker $*" >>{calls}\n'
# Lists the images in a file, all of them or one repository's, and removes images from it.
_DOCKER_WITH_IMAGES = """#!/bin/sh
case "$*" in
    *"--filter reference="*) grep "^${{5#reference=}}:" {images} ;;
    "image ls"*) cat {images} ;;
    "image rm"*) grep -vxF "$3" {images} >{images}.left; mv {images}.left {images} ;;
esac
exit 0
"""

# Keeps each running node as a file with its address, and assigns addresses in the order in which
# nodes start, as Docker does.
_DOCKER_WITH_NODES = """#!/bin/sh
cd {addresses}
case "$1" in
    ps) ls ;;
    inspect) cat "$4" ;;
    stop) shift; rm "$@" ;;
    start) echo "198.18.0.$(($(ls | wc -l) + 2))" >.new; mv .new "$2" ;;
esac
"""


class _Engine:
    """An existing engine without nodes and images, which records whether it was destroyed."""

    kind: EngineKind = "existing"
    docker_host = "unix:///nowhere.sock"
    network = _CLUSTER

    def __init__(self, docker: Path, *, running: bool = True) -> None:
        self.docker = docker
        self.running = running
        self.destroyed = False

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> bool:
        return True

    def destroy(self) -> None:
        if not self.running:
            raise PlatformError("the engine does not answer", next_step="start it")
        self.destroyed = True

    def status(self) -> EngineStatus:
        return EngineStatus("existing", running=self.running, version="1", reason="")


class _Machine:
    """The recorded calls of kind and docker, and the last configuration that kind was given."""

    def __init__(self, folder: Path, engine: _Engine) -> None:
        self.engine = engine
        self._folder = folder

    @property
    def calls(self) -> Sequence[str]:
        path = self._folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def config(self) -> dict[str, Any]:
        content: dict[str, Any] = YAML(typ="safe").load(self._folder / "config.yaml")
        return content


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Machine:
    """Return a machine on which every kind command fails and docker lists no containers."""
    for name, script in (("kind", _KIND), ("docker", _DOCKER)):
        (tmp_path / name).write_text(
            script.format(calls=tmp_path / "calls", config=tmp_path / "config.yaml")
        )
        (tmp_path / name).chmod(0o755)
    engine = _Engine(tmp_path / "docker")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(kind, "program", lambda name: tmp_path / name)
    monkeypatch.setattr(kind, "ensure_clients", lambda _: None)
    monkeypatch.setattr(kind, "choose_engine", lambda *_, **__: EngineChoice(engine, "a test"))
    monkeypatch.setattr(kind, "recorded_engine", lambda _: engine)
    monkeypatch.setattr(
        kind, "node_image", lambda: NodeImage("prefect-platform.local/node:v1", tmp_path / "a.tar")
    )
    monkeypatch.setattr(kind, "choose_node_image", lambda forced: NodeImageChoice(forced, "a test"))
    return _Machine(tmp_path, engine)


def _create(nodes: int | None, node_image: str) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        KindProvider(_CLUSTER, nodes=nodes, node_image=node_image).create()
    return raised.value


@pytest.mark.parametrize("node_image", ["registry", "build"])
@pytest.mark.parametrize(("nodes", "workers"), [(None, 0), (1, 0), (2, 1), (5, 4)])
def test_one_node_is_the_control_plane_and_the_others_are_workers(
    machine: _Machine, nodes: int | None, workers: int, node_image: str
) -> None:
    _create(nodes, node_image)
    roles = [node["role"] for node in machine.config["nodes"]]
    assert roles == ["control-plane", *["worker"] * workers]


def test_with_a_registry_kind_uses_its_default_image_and_network(machine: _Machine) -> None:
    _create(1, "registry")
    assert machine.config.keys() == {"kind", "apiVersion", "nodes"}
    [call] = [call for call in machine.calls if call.startswith("kind create")]
    assert "--image" not in call
    assert not any("docker load" in call for call in machine.calls)


def test_without_a_registry_our_image_is_loaded_and_the_default_cni_is_disabled(
    machine: _Machine,
) -> None:
    _create(1, "build")
    assert machine.config["networking"]["disableDefaultCNI"] is True
    [call] = [call for call in machine.calls if call.startswith("kind create")]
    assert "--image prefect-platform.local/node:v1" in call
    assert any(call.startswith("docker load") for call in machine.calls)


def test_every_kind_command_uses_the_clusters_own_kubeconfig(machine: _Machine) -> None:
    _create(1, "registry")
    with pytest.raises(PlatformError):  # every command of this kind fails
        KindProvider(_CLUSTER).delete()
    calls = [call for call in machine.calls if call.startswith("kind ")]
    own = f"--kubeconfig {KindProvider(_CLUSTER).kubeconfig()}"
    assert len(calls) == 2
    assert all(own in call for call in calls)


def test_a_failed_creation_shows_kinds_error_and_the_path_of_its_log(machine: _Machine) -> None:
    error = _create(1, "registry")
    log = KindProvider(_CLUSTER).kubeconfig().parent / "kind.log"
    assert "the words of kind" in error.message
    assert str(log) in error.next_step
    assert "the words of kind" in log.read_text()
    assert "--retain" in machine.calls[-1], "the failed nodes are not kept for inspection"


def test_delete_removes_files_that_a_crash_left_in_the_state_folder(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(1, "registry")
    (KindProvider(_CLUSTER).kubeconfig().parent / "kind.json.half").write_text("{")
    monkeypatch.setattr(KindProvider, "_delete_nodes", lambda *_: None)
    KindProvider(_CLUSTER).delete()
    assert machine.engine.destroyed
    assert list(Path(os.environ["XDG_STATE_HOME"]).iterdir()) == []


def test_delete_removes_only_our_own_node_images(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = machine.engine.docker.with_name("images")
    theirs = ["theirs/database:v1", "kindest/node:v1"]
    images.write_text("\n".join([*theirs, "prefect-platform.local/node:v1"]) + "\n")
    machine.engine.docker.write_text(_DOCKER_WITH_IMAGES.format(images=images))
    _create(1, "registry")
    monkeypatch.setattr(KindProvider, "_delete_nodes", lambda *_: None)
    KindProvider(_CLUSTER).delete()
    assert images.read_text().split() == theirs


def test_delete_keeps_the_record_of_a_cluster_whose_engine_does_not_answer(
    machine: _Machine,
) -> None:
    _create(1, "registry")
    machine.engine.running = False
    with pytest.raises(PlatformError, match="the engine does not answer"):
        KindProvider(_CLUSTER).delete()
    assert KindProvider(_CLUSTER).kubeconfig().parent.exists()
    assert not any(call.startswith("kind delete") for call in machine.calls)


def test_a_manually_removed_node_is_named_in_the_error(machine: _Machine) -> None:
    state = KindProvider(_CLUSTER).kubeconfig().parent
    state.mkdir(parents=True)
    (state / "kubeconfig").touch()
    node = f"{_CLUSTER}-control-plane"
    (state / "kind.json").write_text(json.dumps({"addresses": {node: "198.18.0.2"}}))
    error = _create(None, "registry")
    assert f"the container of its node {node} is missing" in error.message
    assert "make destroy-cluster" in error.next_step
    assert not any(call.startswith("kind") for call in machine.calls)


def test_nodes_with_swapped_addresses_get_their_own_addresses_back(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.engine, "start", lambda: False)
    # Only waiting for the nodes needs a cluster.
    for wait in ("_wait_for_nodes", "_wait_for_current_pod_states"):
        monkeypatch.setattr(KindProvider, wait, lambda *_: None)
    addresses = machine.engine.docker.with_name("addresses")
    addresses.mkdir()
    machine.engine.docker.write_text(_DOCKER_WITH_NODES.format(addresses=addresses))
    own = {f"{_CLUSTER}-control-plane": "198.18.0.2", f"{_CLUSTER}-worker": "198.18.0.3"}
    for node, address in zip(own, reversed(own.values()), strict=True):
        (addresses / node).write_text(f"{address}\n")
    state = KindProvider(_CLUSTER).kubeconfig().parent
    state.mkdir(parents=True)
    (state / "kubeconfig").touch()
    (state / "kind.json").write_text(json.dumps({"addresses": own}))

    assert KindProvider(_CLUSTER).create()

    assert {path.name: path.read_text().strip() for path in addresses.iterdir()} == own
    assert not KindProvider(_CLUSTER).create()


def test_status_reports_an_interrupted_creation(machine: _Machine) -> None:
    _create(1, "registry")
    status = KindProvider(_CLUSTER).status()
    assert not status.running
    assert "interrupted" in dict(status.facts)["nodes"]
    machine.engine.running = False
    assert "is not running" in dict(KindProvider(_CLUSTER).status().facts)["nodes"]
