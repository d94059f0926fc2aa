"""A cell of the table is as declared, wrong or unproven, and it never passes without proof."""

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
    """Return the column of `place` by source, given the outcomes of these attempts."""
    titles = {"api": "API", "job": "job pod of etl", "stranger": "stranger"}
    outcomes = {title: {str(place): _SILENT} for title in _SOURCES}
    outcomes |= {titles[short]: {str(place): each} for short, each in reached_by.items()}
    return {cell.source: cell for cell in judge(_SOURCES, [place], outcomes, {})}


def test_a_denial_is_proven_if_another_source_reaches_the_target() -> None:
    found = cells(_DATABASE, api=REACHED)

    assert not any(cell.wrong or cell.unproven for cell in found.values())


def test_if_the_target_is_down_denials_are_unproven_and_allowed_connections_are_wrong() -> None:
    found = cells(_DATABASE)

    assert "no pod reaches 198.51.100.1:5432" in found["job pod of etl"].unproven
    assert found["API"].wrong


def test_a_denied_connection_that_succeeds_is_wrong() -> None:
    found = cells(_DATABASE, api=REACHED, job=REACHED)

    assert found["job pod of etl"].wrong
    with pytest.raises(
        PlatformError,
        match=r"job pod of etl reaches PostgreSQL \(198\.51\.100\.1:5432\), which is denied",
    ):
        refuse_wrong(found.values())


def test_an_unreachable_world_is_unproven_but_not_wrong() -> None:
    assert all(cell.unproven and not cell.wrong for cell in cells(_WORLD).values())


def test_a_stranger_that_reaches_the_world_proves_that_it_answers() -> None:
    found = cells(_WORLD, stranger=REACHED, api=REACHED)

    assert not any(cell.wrong or cell.unproven for cell in found.values())
    assert not found["job pod of etl"].reached


def test_a_job_pod_that_only_the_kubelet_reaches_proves_the_denials() -> None:
    assert not any(cell.wrong or cell.unproven for cell in cells(_JOB).values())


def test_a_missing_target_is_unproven_with_its_reason() -> None:
    missing = Place(Target.REDIS, missing="mode single")

    assert {cell.unproven for cell in cells(missing).values()} == {"mode single"}


def test_a_source_without_a_pod_is_unproven_with_its_reason() -> None:
    found = judge(_SOURCES, [_DATABASE], {}, {"stranger": "a pod in default is refused"})

    assert [cell.unproven for cell in found if cell.source == "stranger"] == [
        "a pod in default is refused"
    ]


def test_a_strangers_access_to_an_external_target_is_not_judged() -> None:
    found = cells(Place(Target.WAREHOUSE, host="db.example.org", port=5432, external=True))

    assert "protects itself" in found["stranger"].unproven


@pytest.mark.parametrize("written", ["example.org", "example.org:http", ":443", "a:0", "a:70000"])
def test_an_address_without_a_valid_host_and_port_is_refused(written: str) -> None:
    with pytest.raises(PlatformError, match="is not an address and a port"):
        parse_address(written)


def test_an_attempt_reaches_an_open_port_and_reports_a_closed_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert attempt(address) == REACHED

    assert "refused" in attempt(address)


def test_an_attempt_without_a_port_resolves_the_name() -> None:
    assert attempt(("localhost", 0)) == REACHED
    assert attempt(("nowhere.invalid", 0)) != REACHED
