"""Destroying the last private engine restores the machine's kernel settings."""

from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine import kernel_settings
from prefect_platform_cli.cluster.engine import private as engine_private
from prefect_platform_cli.cluster.engine.private import PrivateEngine

_CLUSTER = "unit-test-of-private-engine"


@pytest.fixture
def panic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the kernel.panic setting of a simulated machine: recorded as 0, then set to 10.

    The real settings and the folder of real engines are not touched.
    """
    setting = tmp_path / "sys" / "kernel" / "panic"
    setting.parent.mkdir(parents=True)
    setting.write_text("0\n")
    machine = tmp_path / "machine"
    machine.mkdir()
    monkeypatch.setattr(kernel_settings, "_SYSCTL", tmp_path / "sys")
    monkeypatch.setattr(engine_private, "_MACHINE", machine)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    kernel_settings.record(machine / "kernel-settings.json")
    setting.write_text("10\n")
    return setting


def test_destroying_the_last_engine_restores_kernel_settings(panic: Path, tmp_path: Path) -> None:
    PrivateEngine(_CLUSTER).destroy()
    assert panic.read_text() == "0\n"
    assert not (tmp_path / "machine").exists()


def test_kernel_settings_stay_while_another_engine_exists(panic: Path, tmp_path: Path) -> None:
    other = tmp_path / "machine" / "other"
    other.mkdir()
    PrivateEngine(_CLUSTER).destroy()
    assert panic.read_text() == "10\n"
    other.rmdir()
    PrivateEngine(_CLUSTER).destroy()
    assert panic.read_text() == "0\n"
