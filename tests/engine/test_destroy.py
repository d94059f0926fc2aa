"""Destroying an engine in any state leaves the machine as it was before."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine.private import PrivateEngine
from tests.support.host_snapshot import difference, take
from tests.support.power import lose_power

Docker = Callable[..., str]


def _root(engine: PrivateEngine) -> Path:
    return Path(engine.docker_host.removeprefix("unix://")).parent


def _leave_running(_: PrivateEngine) -> None:
    """Do nothing to the engine."""


def _kill_dockerd(engine: PrivateEngine) -> None:
    for pid in engine.processes():
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            os.kill(pid, signal.SIGKILL)
            return


def _lose_the_record(engine: PrivateEngine) -> None:
    (_root(engine) / "engine.json").unlink()


def _lose_the_folder(engine: PrivateEngine) -> None:
    shutil.rmtree(_root(engine))


@pytest.mark.parametrize(
    "incident", [_leave_running, _kill_dockerd, lose_power, _lose_the_record, _lose_the_folder]
)
def test_destroying_an_engine_with_containers_leaves_nothing_behind(
    engine: PrivateEngine, docker: Docker, incident: Callable[[PrivateEngine], None]
) -> None:
    before = take(engine)
    engine.start()
    # Do what a node does: run privileged, with control groups below its own, a volume and a port,
    # and write the kernel settings that the kubelet writes.
    docker(
        *(engine, "run", "-d", "--privileged", "--cgroupns=private", "-v=/var", "-P"),
        *("--expose=80", "--tmpfs=/tmp", f"--network={engine.network}", "busybox", "sh", "-c"),
        "echo 1 > /proc/sys/vm/overcommit_memory; echo 10 > /proc/sys/kernel/panic;"
        "mkdir -p /sys/fs/cgroup/kubelet/pod /sys/fs/cgroup/*/kubelet/pod; mount -t tmpfs x /mnt;"
        "touch /var/ready; exec sleep 99",
    )
    incident(engine)
    engine.destroy()
    assert difference(before, take(engine)) == []


@pytest.mark.parametrize("incident", [_leave_running, lose_power])
def test_networks_that_users_created_in_the_engine_are_removed_with_it(
    engine: PrivateEngine, docker: Docker, incident: Callable[[PrivateEngine], None]
) -> None:
    before = take(engine)
    engine.start()
    docker(engine, "network", "create", "plain")
    docker(engine, "network", "create", "--subnet=198.19.99.0/24", "addressed")
    incident(engine)
    engine.destroy()
    assert difference(before, take(engine)) == []


def test_destroying_an_engine_that_never_ran_leaves_nothing_behind(engine: PrivateEngine) -> None:
    before = take(engine)
    engine.destroy()
    assert difference(before, take(engine)) == []


def test_destroying_an_engine_twice_leaves_nothing_behind(engine: PrivateEngine) -> None:
    before = take(engine)
    engine.start()
    engine.destroy()
    engine.destroy()
    assert difference(before, take(engine)) == []


def test_files_linked_or_mounted_into_the_engines_folder_are_kept(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    engine.start()
    for name in ("linked", "mounted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "theirs").write_text("precious")
    (_root(engine) / "linked").symlink_to(tmp_path / "linked")
    (_root(engine) / "mounted").mkdir()
    bind = ["mount", "--bind", str(tmp_path / "mounted"), str(_root(engine) / "mounted")]
    subprocess.run(bind, check=True)
    engine.destroy()
    assert [path.read_text() for path in tmp_path.rglob("theirs")] == ["precious", "precious"]


def test_a_snapshot_shows_what_an_engine_adds_to_the_machine(engine: PrivateEngine) -> None:
    before = take(engine)
    engine.start()
    added = difference(before, take(engine))
    assert any(line.startswith("+ process") and line.endswith("dockerd") for line in added)
    assert any(line.startswith("+ link pp-") for line in added)
    assert f"+ file {_root(engine)}" in added
