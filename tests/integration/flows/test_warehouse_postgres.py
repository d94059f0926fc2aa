"""Loading into a real PostgreSQL."""

import datetime as dt
from typing import Any

import psycopg
import pytest

from lib.delays import Delays
from lib.destination import Platform
from lib.refusal import NotYet
from lib.warehouse import Server, store_in_postgres
from tests.support import servers

DAY = dt.date(2013, 2, 8)
NEXT_DAY = dt.date(2013, 2, 9)
STORM = Delays(DAY, "origin", "JFK", "JFK", 300, 150, 14.9, None)
CALM = Delays(NEXT_DAY, "origin", "JFK", "JFK", 290, 0, -2.5, -7.0)


@pytest.fixture
def server(warehouse: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Server:
    for name, value in (warehouse | {"RAW_BUCKET": "raw", "ARTIFACTS_BUCKET": "artifacts"}).items():
        monkeypatch.setenv(name, value)
    server = Platform().warehouse
    execute(server, "DROP TABLE IF EXISTS daily_delays")
    return server


def execute(server: Server, statement: str) -> list[Any]:
    with psycopg.connect(
        host=server.host,
        port=server.port,
        dbname=server.database,
        user=server.user,
        password=server.password.get_secret_value(),
    ) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def rows_in(server: Server) -> list[Any]:
    return execute(server, "SELECT * FROM daily_delays ORDER BY day, member")


def test_storing_a_day_again_replaces_only_the_rows_of_that_day(server: Server) -> None:
    store_in_postgres(server, NEXT_DAY, [CALM])
    store_in_postgres(server, DAY, [STORM, STORM._replace(member="EWR")])
    store_in_postgres(server, DAY, [STORM._replace(cancelled=151)])
    assert rows_in(server) == [STORM._replace(cancelled=151), CALM]


def test_a_day_that_cannot_be_stored_completely_keeps_its_previous_rows(server: Server) -> None:
    store_in_postgres(server, DAY, [STORM])
    with pytest.raises(psycopg.errors.UniqueViolation):
        store_in_postgres(server, DAY, [STORM._replace(cancelled=0), STORM])
    assert rows_in(server) == [STORM]


def test_the_columns_have_the_expected_types(server: Server) -> None:
    store_in_postgres(server, DAY, [STORM])
    types = execute(
        server,
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_name = 'daily_delays' ORDER BY ordinal_position",
    )
    assert types == [
        ("day", "date"),
        ("dimension", "text"),
        ("member", "text"),
        ("label", "text"),
        ("flights", "integer"),
        ("cancelled", "integer"),
        ("mean_departure_delay", "double precision"),
        ("mean_arrival_delay", "double precision"),
    ]


def test_a_rejected_password_is_reported_without_the_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "a-wrong-one")
    with pytest.raises(NotYet) as refused:
        store_in_postgres(Platform().warehouse, DAY, [STORM])
    assert "password authentication failed" in refused.value.message
    assert str(server) in refused.value.message
    assert "a-wrong-one" not in str(refused.value)


@pytest.mark.usefixtures("server")
def test_an_unreachable_warehouse_is_reported_with_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = servers.free_ports(1)
    monkeypatch.setenv("WAREHOUSE_PORT", str(port))
    with pytest.raises(NotYet, match=f"Cannot connect to the warehouse 127.0.0.1:{port}/postgres"):
        store_in_postgres(Platform().warehouse, DAY, [STORM])
