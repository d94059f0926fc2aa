"""kind, kubectl and helm on PATH are used only if their version is supported."""

import os
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import toolchain
from prefect_platform_cli.host.toolchain import tool, version
from prefect_platform_cli.kube import clients
from prefect_platform_cli.kube.clients import choose_client, ensure_clients, program

# How each program prints its version.
PRINTS = {
    "kind": "kind {} go1.26.8 linux/amd64",
    "kubectl": "Client Version: {}\nKustomize Version: v5.8.1",
    "helm": "{}+g45689a9",
}


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH, which is empty; no program is built yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CLIENTS", raising=False)
    return folder


def install(folder: Path, name: str, script: str) -> Path:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder / name


def install_version(folder: Path, name: str, number: str) -> Path:
    """Install a program that prints the version `number` in the format of `name`."""
    return install(folder, name, f"echo '{PRINTS[name].format(number)}'")


def install_build(name: str) -> Path:
    """Install a program in the folder of our own build of `name`."""
    folder = toolchain._directory(toolchain.TOOLS[name])
    folder.mkdir(parents=True)
    return install(folder, name, "")


def shifted_version(name: str, major: int = 0, minor: int = 0) -> str:
    """Return the pinned version of `name`, with `major` and `minor` added to its numbers."""
    first, second, _ = version(name).removeprefix("v").split(".")
    return f"v{int(first) + major}.{int(second) + minor}.0"


@pytest.mark.parametrize(
    ("name", "major", "minor"),
    [
        ("kind", 0, 0),
        ("kubectl", 0, -1),
        ("kubectl", 0, 0),
        ("kubectl", 0, 1),
        ("helm", 0, -1),
        ("helm", 0, 7),
    ],
)
def test_a_supported_client_on_path_is_used(
    on_path: Path, name: str, major: int, minor: int
) -> None:
    number = shifted_version(name, major, minor)
    found = install_version(on_path, name, number)
    choice = choose_client(name)
    assert (choice.path, choice.reason.partition(",")[0]) == (found, number)
    assert program(name) == found


@pytest.mark.parametrize(
    ("name", "major", "minor"),
    [
        ("kind", 0, 1),
        ("kind", 0, -1),
        ("kind", 1, 0),
        ("kubectl", 0, -2),
        ("kubectl", 0, 2),
        ("kubectl", 1, 0),
        ("helm", -1, 0),
        ("helm", 1, 0),
    ],
)
def test_a_client_of_an_unsupported_version_is_not_used(
    on_path: Path, name: str, major: int, minor: int
) -> None:
    number = shifted_version(name, major, minor)
    found, ours = install_version(on_path, name, number), install_build(name)
    choice = choose_client(name)
    assert choice.path is None
    assert choice.reason.startswith(f"{found} is {number}, which is not ")
    assert program(name) == ours


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo none of your business", "does not print its version"),
        ("echo the disk is gone >&2; exit 3", "exited with 3: the disk is gone"),
    ],
)
def test_a_client_that_prints_no_version_is_not_used(
    on_path: Path, script: str, reason: str
) -> None:
    install(on_path, "helm", script)
    choice = choose_client("helm")
    assert choice.path is None
    assert reason in choice.reason


@pytest.mark.usefixtures("on_path")
def test_without_a_client_on_path_our_own_build_is_used() -> None:
    ours = install_build("kind")
    assert choose_client("kind").reason == "kind is not on PATH"
    assert program("kind") == ours


def test_our_own_build_on_path_is_not_mistaken_for_the_users(
    on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = install_version(install_build("kind").parent, "kind", shifted_version("kind"))
    monkeypatch.setenv("PATH", f"{ours.parent}{os.pathsep}{on_path}")
    assert choose_client("kind").path is None


def test_our_own_build_can_be_forced(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_version(on_path, "kubectl", version("kubectl"))
    ours = install_build("kubectl")
    monkeypatch.setenv("CLIENTS", "build")
    assert program("kubectl") == ours
    assert choose_client("kubectl", "build").reason == "CLIENTS=build"


def test_a_client_on_path_can_be_forced_only_if_it_is_supported(
    on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIENTS", "path")
    found = install_version(on_path, "helm", version("helm"))
    assert program("helm") == found
    install_version(on_path, "kind", "v0.1.0")
    for name, reason in {"kind": "is v0.1.0, which is not", "kubectl": "is not on PATH"}.items():
        with pytest.raises(PlatformError, match=f"CLIENTS=path, but .*{reason}"):
            program(name)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(PlatformError, match="CLIENTS=tape is not valid"):
        choose_client("kind", "tape")


def test_each_chosen_client_is_printed_with_the_reason(
    on_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = install_version(on_path, "kind", version("kind"))
    for name in ("kubectl", "helm"):
        install_build(name)
    ensure_clients(["kind", "kubectl", "helm"])
    kind, kubectl, helm = capsys.readouterr().err.splitlines()
    assert kind.startswith(f"kind: {found} ({version('kind')}, ")
    assert kubectl == f"kubectl: our own build of {version('kubectl')} (kubectl is not on PATH)"
    assert helm.startswith("helm: our own build of ")


def test_programs_for_the_node_image_are_never_taken_from_path(on_path: Path) -> None:
    found = install_version(on_path, "kubectl", version("kubectl"))
    ours = install_build("kubectl")
    assert tool("kubectl") == ours
    assert toolchain.ensure_tools(["kubectl"]) == {"kubectl": ours}
    assert clients.program("kubectl") == found
