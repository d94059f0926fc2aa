import datetime as dt
from pathlib import Path

import pytest

from lib.destination import LocalFolder, Platform, from_environment
from lib.flight_days import PACKAGE_SOURCE
from lib.refusal import Refusal

COMPLETE = {
    "RAW_BUCKET": "raw",
    "ARTIFACTS_BUCKET": "artifacts",
    "WAREHOUSE_HOST": "warehouse.data",
    "WAREHOUSE_PORT": "6432",
    "WAREHOUSE_DATABASE": "flights",
    "WAREHOUSE_USER": "etl",
    "WAREHOUSE_PASSWORD": "hush-hush",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COMPLETE, "ETL_OUTPUT"):
        monkeypatch.delenv(name, raising=False)


def test_a_complete_environment_selects_the_bucket_and_the_warehouse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    target = from_environment()
    assert isinstance(target, Platform)
    assert target.source == "s3://raw"
    assert str(target) == (
        "s3://raw to PostgreSQL warehouse.data:6432/flights and s3://artifacts (RAW_BUCKET is set)"
    )


def test_the_password_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    target = from_environment()
    assert "hush-hush" not in f"{target} {target!r}"


def test_an_empty_environment_selects_a_local_folder_and_says_so() -> None:
    target = from_environment()
    assert target == LocalFolder(Path("etl-output"), PACKAGE_SOURCE)
    assert "RAW_BUCKET is not set; ETL_OUTPUT selects another folder" in str(target)


def test_the_local_folder_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ETL_OUTPUT", str(tmp_path))
    assert from_environment() == LocalFolder(tmp_path)


@pytest.mark.parametrize("missing", sorted(COMPLETE.keys() - {"WAREHOUSE_PORT"}))
@pytest.mark.parametrize("how", ["unset", "empty"])
def test_an_incomplete_environment_is_refused_with_the_missing_names(
    monkeypatch: pytest.MonkeyPatch, missing: str, how: str
) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    if how == "unset":
        monkeypatch.delenv(missing)
    else:
        monkeypatch.setenv(missing, "")
    with pytest.raises(Refusal) as refused:
        from_environment()
    assert refused.value.message.endswith(f": {missing} is missing.")


def test_a_port_that_is_not_a_number_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (COMPLETE | {"WAREHOUSE_PORT": "postgres"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refusal, match="WAREHOUSE_PORT: Input should be a valid integer"):
        from_environment()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match=r"Cannot write to the folder .*file/here: Not a directory"):
        LocalFolder(tmp_path / "file" / "here").store(dt.date(2013, 2, 8), [])
