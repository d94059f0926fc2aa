"""The choice of the builder, which can be forced, and the reason that is given for it."""

from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images import selection
from prefect_platform_cli.images.base import Base
from prefect_platform_cli.images.selection import choose_builder

PULLED = Base("example.org/python:3.11", "identity", "the registry answers")
MADE = Base("prefect-platform.local/base:1", "identity", "no registry", Path("rootfs.tar"))


class _Buildah:
    name = "buildah"

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate root on Debian with buildah, without an engine or a custom certificate authority."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(selection, "Buildah", _Buildah)
    monkeypatch.setattr(selection, "certificate_authority", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    _docker(tmp_path, "echo 'Cannot connect to the daemon' >&2; exit 1")
    return tmp_path


def _docker(machine: Path, script: str) -> None:
    command = machine / "bin" / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def _chosen(machine: Path, base: Base = PULLED, forced: str | None = None) -> tuple[str, str]:
    builder, reason = choose_builder(forced, base=base, docker_host=None, folder=machine)
    return builder.name, reason


def test_a_reachable_engine_builds_on_a_pulled_base(machine: Path) -> None:
    _docker(machine, "echo 28.2.2")
    assert _chosen(machine) == ("docker", "Docker 28.2.2 answers")


def test_the_engine_at_the_given_address_is_used(machine: Path) -> None:
    _docker(machine, 'test "$DOCKER_HOST" = unix:///ours && echo 20.10.24')
    builder, _ = choose_builder(None, base=PULLED, docker_host="unix:///ours", folder=machine)
    assert builder.name == "docker"
    assert _chosen(machine)[0] == "buildah"


def test_buildah_is_used_without_an_engine(machine: Path) -> None:
    assert _chosen(machine) == ("buildah", "no Docker engine answers")


def test_buildah_is_used_for_a_locally_made_base(machine: Path) -> None:
    _docker(machine, "echo 28.2.2")
    assert _chosen(machine, MADE)[0] == "buildah"


def test_buildah_is_used_for_custom_certificate_authorities(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _docker(machine, "echo 28.2.2")
    monkeypatch.setattr(selection, "certificate_authority", lambda: Path("/ca.crt"))
    name, reason = _chosen(machine)
    assert name == "buildah"
    assert "CA certificates" in reason


def test_docker_is_used_for_everything_without_root(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _docker(machine, "echo 28.2.2")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert _chosen(machine, MADE)[0] == "docker"


@pytest.mark.parametrize("forced", ["docker", "buildah"])
def test_a_forced_builder_takes_precedence(machine: Path, forced: str) -> None:
    _docker(machine, "echo 28.2.2")
    assert _chosen(machine, MADE, forced) == (forced, f"BUILDER={forced}")


def test_forcing_an_unreachable_engine_is_refused_with_the_cause(machine: Path) -> None:
    with pytest.raises(PlatformError, match="Cannot connect to the daemon"):
        _chosen(machine, forced="docker")


def test_an_unknown_builder_is_refused(machine: Path) -> None:
    with pytest.raises(PlatformError) as refusal:
        _chosen(machine, forced="kaniko")
    assert "kaniko" in refusal.value.message
    assert "docker or buildah" in refusal.value.next_step


def test_the_error_says_what_to_do_if_neither_builder_is_available(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PlatformError) as refusal:
        _chosen(machine)
    assert "start a Docker engine" in refusal.value.next_step
