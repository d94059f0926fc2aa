"""Kernel settings that nodes write are put back to what they were before the first cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.engine import kernel_settings

_PANIC = Path("/proc/sys/kernel/panic")


@pytest.fixture
def panic() -> Iterator[int]:
    """Return kernel.panic, in seconds, and keep the machine's value whatever the test does."""
    before = _PANIC.read_text()
    yield int(before)
    _PANIC.write_text(before)


def test_a_setting_that_changed_is_put_back(panic: int, tmp_path: Path) -> None:
    kernel_settings.record(tmp_path / "record")
    _PANIC.write_text(str(panic + 7))
    kernel_settings.restore(tmp_path / "record")
    assert int(_PANIC.read_text()) == panic
    assert not (tmp_path / "record").exists()


def test_a_second_cluster_does_not_record_what_the_first_one_set(
    panic: int, tmp_path: Path
) -> None:
    kernel_settings.record(tmp_path / "record")
    _PANIC.write_text(str(panic + 7))
    kernel_settings.record(tmp_path / "record")
    kernel_settings.restore(tmp_path / "record")
    assert int(_PANIC.read_text()) == panic


def test_a_record_of_an_earlier_boot_is_not_put_back_but_taken_anew(
    panic: int, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    kernel_settings.record(record)
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "an earlier one"}))
    _PANIC.write_text(str(panic + 7))
    kernel_settings.record(record)
    kernel_settings.restore(record)
    assert int(_PANIC.read_text()) == panic + 7


def test_without_a_record_there_is_nothing_to_put_back(panic: int, tmp_path: Path) -> None:
    kernel_settings.restore(tmp_path / "record")
    assert int(_PANIC.read_text()) == panic
