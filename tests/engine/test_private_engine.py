"""A private engine does what kind needs, and recovers from failures."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while
from prefect_platform_cli.cluster.engine.existing import ExistingEngine
from prefect_platform_cli.cluster.engine.private import PrivateEngine
from tests.support.servers import free_ports

Docker = Callable[..., str]
NewEngine = Callable[[], PrivateEngine]


def _root(engine: PrivateEngine) -> Path:
    return Path(engine.docker_host.removeprefix("unix://")).parent


def _first_process(engine: PrivateEngine) -> int:
    """Return the id of the first process in the engine's process namespace."""
    for pid in engine.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(ids) > 1 and ids[-1] == "1":
            return pid
    raise AssertionError("the engine has no first process")


def _dockerd(engine: PrivateEngine) -> int:
    return next(
        pid
        for pid in engine.processes()
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    )


def test_privileged_containers_run_and_find_each_other_by_name(
    engine: PrivateEngine, docker: Docker
) -> None:
    engine.start()
    docker(
        engine, "run", "-d", "--name=one", f"--network={engine.network}", "busybox", "sleep", "99"
    )
    printed = docker(
        *(engine, "run", "--rm", "--privileged", f"--network={engine.network}"),
        *("busybox", "ping", "-c", "1", "one"),
    )
    assert "1 packets received" in printed


def test_published_ports_answer_on_the_machine(engine: PrivateEngine, docker: Docker) -> None:
    engine.start()
    (port,) = free_ports(1)
    docker(
        *(engine, "run", "-d", f"--network={engine.network}", f"-p=127.0.0.1:{port}:80"),
        *("busybox", "sh", "-c", "echo hello > /index.html; exec httpd -f -h /"),
    )

    @retry(
        retry=retry_if_exception_type(httpx.HTTPError),
        stop=stop_after_delay(20),
        wait=wait_fixed(0.2),
    )
    def get() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text

    assert get() == "hello\n"


def test_a_second_start_changes_nothing(engine: PrivateEngine) -> None:
    assert engine.start()
    before = engine.processes()
    assert not engine.start()
    assert engine.processes() == before
    assert engine.status().running


@pytest.mark.parametrize("victim", [_dockerd, _first_process], ids=["dockerd", "everything"])
def test_a_killed_engine_stops_its_containers_and_restarts_with_their_data(
    engine: PrivateEngine, docker: Docker, victim: Callable[[PrivateEngine], int]
) -> None:
    engine.start()
    docker(
        *(engine, "run", "-d", "--name=node", "-v=data:/data", "busybox"),
        *("sh", "-c", "test -e /data/kept || echo precious > /data/kept; exec sleep 99"),
    )
    container = int(docker(engine, "inspect", "--format={{.State.Pid}}", "node"))
    assert container > 0
    os.kill(victim(engine), signal.SIGKILL)

    assert engine.start()
    assert docker(engine, "ps", "--quiet") == ""
    docker(engine, "start", "node")
    assert docker(engine, "exec", "node", "cat", "/data/kept") == "precious"


def test_two_engines_share_neither_addresses_nor_containers(
    new_engine: NewEngine, docker: Docker
) -> None:
    first, second = new_engine(), new_engine()
    first.start()
    second.start()
    subnets = {
        docker(
            engine,
            "network",
            "inspect",
            engine.network,
            "--format={{(index .IPAM.Config 0).Subnet}}",
        )
        for engine in (first, second)
    }
    assert len(subnets) == 2
    docker(first, "run", "-d", "--name=one", f"--network={first.network}", "busybox", "sleep", "99")
    second.destroy()
    # Both engines share the kernel settings, so only destroying the last engine restores them.
    assert (_root(first).parent / "kernel-settings.json").exists()
    assert docker(first, "ps", "--format={{.Names}}") == "one"
    assert docker(first, "exec", "one", "hostname", "-i").startswith("198.18.")


def test_a_start_interrupted_by_ctrl_c_is_completed_by_the_next_start(
    engine: PrivateEngine,
) -> None:
    # If a shell runs the tests in the background, they and their child processes ignore Ctrl-C.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from prefect_platform_cli.cluster.engine.private import PrivateEngine;"
        "PrivateEngine(sys.argv[1]).start()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, engine.network], stderr=subprocess.PIPE, process_group=0
    ) as starting:
        missing = wait_while(
            lambda: starting.poll() is None and not engine.processes(), 120, every=0.01
        )
        assert not missing, "no engine started within 120 s"
        assert starting.poll() is None, "the process ended without starting an engine"
        os.killpg(starting.pid, signal.SIGINT)
    assert engine.processes(), "Ctrl-C ended the engine"
    engine.start()
    assert engine.status().running


def test_an_engine_that_cannot_start_says_why_and_leaves_no_process(engine: PrivateEngine) -> None:
    _root(engine).mkdir(parents=True)
    (_root(engine) / "docker").write_text("a file where a folder must be")
    with pytest.raises(PlatformError, match=r"its log ends: .*canonical path points to a file"):
        engine.start()
    assert engine.processes() == []


def test_a_failed_download_of_the_engine_leaves_nothing_behind(
    engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text("#!/bin/sh\necho 'E: Could not resolve deb.debian.org' >&2; exit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(PlatformError, match="Could not resolve"):
        engine.start()
    assert not engine.exists()


def test_only_our_network_is_added_to_and_removed_from_an_existing_engine(
    engine: PrivateEngine, docker: Docker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine.start()
    docker(engine, "network", "create", "theirs")
    before = docker(engine, "network", "ls", "--format={{.Name}}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{engine.docker.parent}:{os.environ['PATH']}")
    existing = ExistingEngine("guest", engine.docker_host)

    assert existing.start()
    assert not existing.start()
    assert "guest" in docker(engine, "network", "ls", "--format={{.Name}}").split()
    found = ExistingEngine.recorded("guest")
    assert found is not None
    assert found.docker_host == engine.docker_host
    existing.destroy()
    assert docker(engine, "network", "ls", "--format={{.Name}}") == before
    assert ExistingEngine.recorded("guest") is None


def test_a_network_that_is_not_ours_is_not_taken_over(
    engine: PrivateEngine, docker: Docker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine.start()
    docker(engine, "network", "create", "theirs")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{engine.docker.parent}:{os.environ['PATH']}")
    with pytest.raises(PlatformError, match="theirs, which does not belong to this cluster"):
        ExistingEngine("theirs", engine.docker_host).start()
