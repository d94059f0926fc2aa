"""A Docker engine builds the same Dockerfiles, with its legacy builder and with BuildKit."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine.private import PrivateEngine
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.base import choose_base
from prefect_platform_cli.images.builder import Order
from prefect_platform_cli.images.catalogue import recipes
from prefect_platform_cli.images.docker import Docker
from prefect_platform_cli.images.layers import leaks
from prefect_platform_cli.images.remote import Registry
from prefect_platform_cli.images.sbom import FACTS, packages, read_facts


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrivateEngine, str]]:
    """Yield an engine for these tests alone, and the reference of its base image."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs root on Debian or Ubuntu")
    chosen = choose_base()
    started = PrivateEngine(f"test-images-{os.getpid()}")
    started.start()
    try:
        if chosen.rootfs is not None:
            context = tmp_path_factory.mktemp("base")
            shutil.copyfile(chosen.rootfs, context / "rootfs.tar")
            (context / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
            with pytest.MonkeyPatch.context() as patched:
                _use(started, patched)
                order = Order(chosen.reference, context, context / "log", base_is_local=True)
                Docker(started.docker_host).build(order)
        yield started, chosen.reference
    finally:
        started.destroy()


def _use(engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Use the engine's own client: a newer client lacks the legacy builder, or needs a plug-in for
    # BuildKit.
    monkeypatch.setenv("PATH", f"{engine.docker.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("buildkit", ["0", "1"], ids=["first builder", "BuildKit"])
def test_docker_builds_exports_and_discards_an_image(
    engine: tuple[PrivateEngine, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    buildkit: str,
) -> None:
    running, base = engine
    _use(running, monkeypatch)
    monkeypatch.setenv("DOCKER_BUILDKIT", buildkit)
    docker = Docker(running.docker_host)
    (redis,) = recipes(["redis"])
    reference = f"prefect-platform.local/redis:{buildkit}"
    docker.build(
        Order(
            reference,
            REPOSITORY / redis.context,
            tmp_path / "log",
            arguments={"BASE": base, "VERSION": "1.2.3"},
            labels={"org.opencontainers.image.base.name": base},
        )
    )
    assert reference in docker.references()
    docker.export([reference], tmp_path / "archive.tar")
    with tarfile.open(tmp_path / "archive.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
        configuration = archive.extractfile(image["Config"])
        assert configuration is not None
        config = json.load(configuration)["config"]
    assert image["RepoTags"] == [reference]
    assert config["User"] == "999:999"
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert config["Labels"]["org.opencontainers.image.base.name"] == base
    docker.pack_files(reference, FACTS, tmp_path / "files.tar")
    names = {package.name for package in packages(read_facts(tmp_path / "files.tar"))}
    assert {"libc6", "redis-tools"} <= names
    ended = docker.run_hardened(reference, ["sh", "-c", "id -u; touch /tmp/x /etc/x"])
    assert ended.stdout == "999\n"
    assert ended.stderr == "touch: cannot touch '/etc/x': Read-only file system\n"
    assert docker.user(reference) == "999:999"
    docker.save_layers(reference, tmp_path / "layers.tar")
    assert any(
        "A_TOKEN" in each for each in leaks(tmp_path / "layers.tar", {"A_TOKEN": "redis-server"})
    )
    docker.discard([reference])
    assert reference not in docker.references()


def test_docker_pushes_an_image_and_keeps_only_its_own_name_of_it(
    engine: tuple[PrivateEngine, str],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    _use(engine[0], monkeypatch)
    docker = Docker(engine[0].docker_host)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    docker.build(Order("prefect-platform.local/example:1", tmp_path, tmp_path / "log"))

    digest = docker.push("prefect-platform.local/example:1", f"{registry.address}/example:1")

    assert digest == registry.digest("example", "1")
    assert [name for name in docker.references() if "example" in name] == [
        "prefect-platform.local/example:1"
    ]
