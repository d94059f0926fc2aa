"""Kernel settings that nodes write are restored to their values before the first cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine import kernel_settings

_PANIC = Path("/proc/sys/kernel/panic")


@pytest.fixture
def panic() -> Iterator[int]:
    """Yield kernel.panic, in seconds, and restore the machine's value after the test."""
    before = _PANIC.read_text()
    yield int(before)
    _PANIC.write_text(before)


def test_a_changed_setting_is_restored(panic: int, tmp_path: Path) -> None:
    kernel_settings.record(tmp_path / "record")
    _PANIC.write_text(str(panic + 7))
    kernel_settings.restore(tmp_path / "record")
    assert int(_PANIC.read_text()) == panic
    assert not (tmp_path / "record").exists()


def test_a_second_cluster_does_not_record_the_settings_of_the_first(
    panic: int, tmp_path: Path
) -> None:
    kernel_settings.record(tmp_path / "record")
    _PANIC.write_text(str(panic + 7))
    kernel_settings.record(tmp_path / "record")
    kernel_settings.restore(tmp_path / "record")
    assert int(_PANIC.read_text()) == panic


def test_a_record_from_an_earlier_boot_is_replaced_and_not_restored(
    panic: int, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    kernel_settings.record(record)
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "an earlier one"}))
    _PANIC.write_text(str(panic + 7))
    kernel_settings.record(record)
    kernel_settings.restore(record)
    assert int(_PANIC.read_text()) == panic + 7


def test_without_a_record_nothing_is_restored(panic: int, tmp_path: Path) -> None:
    kernel_settings.restore(tmp_path / "record")
    assert int(_PANIC.read_text()) == panic
