"""A client of an API without TLS loads certificate authorities before its first TLS connection."""

import ssl

import pytest
from prefect.client.orchestration import PrefectClient, SyncPrefectClient

from prefect_platform.flow_run.certificates import load_late


@pytest.fixture(autouse=True)
def loaded_late(monkeypatch: pytest.MonkeyPatch) -> None:
    for client in (PrefectClient, SyncPrefectClient):
        monkeypatch.setattr(client, "__init__", client.__init__)
    load_late()


def context(api: str, **settings: object) -> ssl.SSLContext:
    client = SyncPrefectClient(api, httpx_settings=settings)
    pool = client._client._transport._pool  # type: ignore[attr-defined]
    found: ssl.SSLContext = pool._ssl_context
    return found


def authorities(of: ssl.SSLContext) -> int:
    return of.cert_store_stats()["x509_ca"]


def test_authorities_are_loaded_before_a_redirect_to_tls_is_followed() -> None:
    found = context("http://127.0.0.1:4200/api")
    before = authorities(found)

    found.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")

    assert before == 0
    assert authorities(found) > 0
    assert found.check_hostname
    assert found.verify_mode == ssl.CERT_REQUIRED


def test_authorities_are_loaded_once_for_all_connections_of_a_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = context("http://127.0.0.1:4200/api")
    loaded: list[object] = []
    monkeypatch.setattr(found, "load_verify_locations", loaded.append)

    for _ in range(2):
        found.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")

    assert len(loaded) == 1


def test_a_client_of_an_api_with_tls_is_prefects_own() -> None:
    assert type(context("https://127.0.0.1:4200/api")) is ssl.SSLContext


def test_a_context_that_is_given_is_kept() -> None:
    given = ssl.create_default_context()

    assert context("http://127.0.0.1:4200/api", verify=given) is given
