"""A cell of the table is as declared, wrong, or unproven, and never passed for lack of proof."""

import socket

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.doctor.attempts import attempt
from prefect_platform_cli.doctor.isolation import (
    REACHED,
    Cell,
    Origin,
    Place,
    Target,
    judge,
    parse_address,
    refuse_wrong,
)

_DATABASE = Place(Target.DATABASE, host="198.51.100.1", port=5432)
_WORLD = Place(Target.WORLD, host="203.0.113.7", port=443)
_JOB = Place(Target.JOB, "etl", host="198.51.100.2", port=8080, serves=True)
_SOURCES = {"API": Origin.API, "job pod of etl": Origin.JOB, "stranger": Origin.STRANGER}
_SILENT = "timed out"


def cells(place: Place, **reached_by: str) -> dict[str, Cell]:
    """Return the column of `place`, by source, when these attempts said so."""
    titles = {"api": "API", "job": "job pod of etl", "stranger": "stranger"}
    said = {title: {str(place): _SILENT} for title in _SOURCES}
    said |= {titles[short]: {str(place): each} for short, each in reached_by.items()}
    return {cell.source: cell for cell in judge(_SOURCES, [place], said, {})}


def test_a_denial_counts_when_somebody_reaches_the_target() -> None:
    found = cells(_DATABASE, api=REACHED)

    assert not any(cell.wrong or cell.unproven for cell in found.values())


def test_a_denial_of_a_dead_target_is_unproven_and_the_lost_way_is_wrong() -> None:
    found = cells(_DATABASE)

    assert "nobody reaches 198.51.100.1:5432" in found["job pod of etl"].unproven
    assert found["API"].wrong


def test_a_way_that_is_denied_and_open_is_wrong() -> None:
    found = cells(_DATABASE, api=REACHED, job=REACHED)

    assert found["job pod of etl"].wrong
    with pytest.raises(
        PlatformError,
        match=r"job pod of etl reaches PostgreSQL \(198\.51\.100\.1:5432\), which is denied",
    ):
        refuse_wrong(found.values())


def test_a_world_that_nobody_reaches_proves_nothing_and_is_no_fault() -> None:
    assert all(cell.unproven and not cell.wrong for cell in cells(_WORLD).values())


def test_the_stranger_is_the_witness_that_the_world_answers() -> None:
    found = cells(_WORLD, stranger=REACHED, api=REACHED)

    assert not any(cell.wrong or cell.unproven for cell in found.values())
    assert not found["job pod of etl"].reached


def test_a_job_pod_that_the_kubelet_reaches_is_alive_though_nobody_may_reach_it() -> None:
    assert not any(cell.wrong or cell.unproven for cell in cells(_JOB).values())


def test_what_is_not_there_is_told_with_its_reason() -> None:
    missing = Place(Target.REDIS, missing="mode single")

    assert {cell.unproven for cell in cells(missing).values()} == {"mode single"}


def test_a_source_without_a_pod_is_told_with_its_reason() -> None:
    found = judge(_SOURCES, [_DATABASE], {}, {"stranger": "a pod in default is refused"})

    assert [cell.unproven for cell in found if cell.source == "stranger"] == [
        "a pod in default is refused"
    ]


def test_whether_a_stranger_reaches_what_is_outside_is_not_judged() -> None:
    found = cells(Place(Target.WAREHOUSE, host="db.example.org", port=5432, external=True))

    assert "guards itself" in found["stranger"].unproven


@pytest.mark.parametrize("written", ["example.org", "example.org:http", ":443", "a:0", "a:70000"])
def test_an_address_without_host_or_port_is_refused(written: str) -> None:
    with pytest.raises(PlatformError, match="is not an address and a port"):
        parse_address(written)


def test_an_attempt_reaches_what_listens_and_tells_what_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert attempt(address) == REACHED

    assert "refused" in attempt(address)


def test_an_attempt_without_a_port_looks_the_name_up() -> None:
    assert attempt(("localhost", 0)) == REACHED
    assert attempt(("nowhere.invalid", 0)) != REACHED
