"""The builder fits the machine, can be forced, and its reason is told."""

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
    """Root on Debian, with buildah, no engine that answers, and no authority of its own."""
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


def test_an_engine_that_answers_builds_on_a_pulled_base(machine: Path) -> None:
    _docker(machine, "echo 28.2.2")
    assert _chosen(machine) == ("docker", "Docker 28.2.2 answers")


def test_the_given_address_is_asked(machine: Path) -> None:
    _docker(machine, 'test "$DOCKER_HOST" = unix:///ours && echo 20.10.24')
    builder, _ = choose_builder(None, base=PULLED, docker_host="unix:///ours", folder=machine)
    assert builder.name == "docker"
    assert _chosen(machine)[0] == "buildah"


def test_without_an_engine_buildah_builds(machine: Path) -> None:
    assert _chosen(machine) == ("buildah", "no Docker engine answers")


def test_a_base_made_here_goes_to_buildah(machine: Path) -> None:
    _docker(machine, "echo 28.2.2")
    assert _chosen(machine, MADE)[0] == "buildah"


def test_own_certificate_authorities_go_to_buildah(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _docker(machine, "echo 28.2.2")
    monkeypatch.setattr(selection, "certificate_authority", lambda: Path("/ca.crt"))
    name, reason = _chosen(machine)
    assert name == "buildah"
    assert "authorities" in reason


def test_who_is_not_root_gets_docker_for_everything(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _docker(machine, "echo 28.2.2")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert _chosen(machine, MADE)[0] == "docker"


@pytest.mark.parametrize("forced", ["docker", "buildah"])
def test_force_wins(machine: Path, forced: str) -> None:
    _docker(machine, "echo 28.2.2")
    assert _chosen(machine, MADE, forced) == (forced, f"BUILDER={forced}")


def test_a_forced_engine_that_does_not_answer_is_refused_with_the_cause(machine: Path) -> None:
    with pytest.raises(PlatformError, match="Cannot connect to the daemon"):
        _chosen(machine, forced="docker")


def test_an_unknown_builder_is_refused(machine: Path) -> None:
    with pytest.raises(PlatformError) as refusal:
        _chosen(machine, forced="kaniko")
    assert "kaniko" in refusal.value.message
    assert "docker, buildah" in refusal.value.next_step


def test_a_machine_that_can_have_neither_is_told_what_to_do(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PlatformError) as refusal:
        _chosen(machine)
    assert "start a Docker engine" in refusal.value.next_step
