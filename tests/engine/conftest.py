"""Real private engines for clusters of the tests; the user's clusters are never touched."""

import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine.private import PrivateEngine
from prefect_platform_cli.host.process import run
from tests.support.requirements import require_packages, skip_without_root

Docker = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests, saying why, on machines that cannot run a private engine."""
    skip_without_root(items, Path(__file__).parent)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image archive for `docker import`: busybox with a link for each of its commands."""
    folder = tmp_path_factory.mktemp("busybox")
    require_packages("nftables", "iptables")  # a snapshot reads the firewall with them
    fetch = "busybox-static cannot be downloaded"
    apt = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "busybox-static"]
    run(apt, failure=fetch, next_step="apt-get update", cwd=folder)
    package = next(folder.glob("*.deb"))
    run(["dpkg-deb", "-x", package, folder / "root"], failure=fetch, next_step="df")
    program = folder / "root" / "bin" / "busybox"
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    archive = folder / "busybox.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(program, "bin/busybox")
        for name in listed.stdout.split():
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return archive


@pytest.fixture
def new_engine(request: pytest.FixtureRequest) -> Iterator[Callable[[], PrivateEngine]]:
    """Yield a function that returns a new, stopped engine, which is destroyed after the test."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:24].strip("-")
    engines: list[PrivateEngine] = []

    def make() -> PrivateEngine:
        engines.append(PrivateEngine(f"test-{os.getpid()}-{len(engines)}-{test}"))
        return engines[-1]

    yield make
    for engine in engines:
        engine.destroy()


@pytest.fixture
def engine(new_engine: Callable[[], PrivateEngine]) -> PrivateEngine:
    """Return one engine that is not started yet."""
    return new_engine()


@pytest.fixture
def docker(busybox: Path) -> Docker:
    """Return a function that runs docker: `docker(engine, "ps", "-a")` returns what it prints.

    The image `busybox` is imported before the first command that runs a container.
    """

    def call(engine: PrivateEngine, *arguments: str) -> str:
        if "run" in arguments and not call_raw(engine, "images", "--quiet", "busybox"):
            call_raw(engine, "import", str(busybox), "busybox")
        return call_raw(engine, *arguments)

    def call_raw(engine: PrivateEngine, *arguments: str) -> str:
        return run(
            [engine.docker, *arguments],
            failure=f"docker {' '.join(arguments)}",
            next_step="read the engine's log",
            env={**os.environ, **engine.environment()},
        ).strip()

    return call
