"""A slot whose lease could not be stored is free."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import PrefectHTTPStatusError
from redis import Redis

from prefect_platform.server.lease_storage import FILE_VARIABLE
from tests.integration.server.redis_server import redis_server
from tests.support.servers import prefect_server

_PASSWORD = "letters-2"


class Storage:
    """The storage of the leases in one mode, which can be filled and freed."""

    def __init__(self, settings: dict[str, str], full: Path | Redis) -> None:
        self.settings = settings
        self._full = full

    def fill(self) -> None:
        """Let the storage refuse every lease from now on."""
        if isinstance(self._full, Redis):
            self._full.config_set("maxmemory", 1)
        else:
            self._full.unlink(missing_ok=True)
            self._full.mkdir()

    def free(self) -> None:
        """Let the storage store leases again."""
        if isinstance(self._full, Redis):
            self._full.config_set("maxmemory", 0)
        else:
            self._full.rmdir()


@pytest.fixture(scope="module", params=["single", "ha"])
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    """Return the storage of the leases in one mode of the server."""
    home = tmp_path_factory.mktemp("storage")
    with ExitStack() as stack:
        if request.param == "single":
            module, full = "prefect_platform.server.lease_storage", home / "leases.db"
            yield Storage(leases_in(module, **{FILE_VARIABLE: str(full)}), full)
        else:
            port = stack.enter_context(redis_server(home, _PASSWORD))
            url = f"redis://:{_PASSWORD}@127.0.0.1:{port}/0"
            leases = leases_in("prefect_redis.lease_storage", PREFECT_REDIS_MESSAGING_URL=url)
            yield Storage(leases, Redis.from_url(url))


def leases_in(module: str, **settings: str) -> dict[str, str]:
    return {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": module, **settings}


@pytest.fixture(scope="module")
def prefect(
    storage: Storage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SyncPrefectClient]:
    plugin = {"PREFECT_PLUGINS_ENABLED": "true", "PREFECT_PLUGINS_ALLOW": "slot-leases"}
    home = tmp_path_factory.mktemp("server")
    with (
        prefect_server(home, **plugin, **storage.settings) as url,
        SyncPrefectClient(url) as client,
    ):
        yield client


@pytest.fixture
def limit(prefect: SyncPrefectClient) -> str:
    """A limit with one slot."""
    name = f"limit-{uuid4()}"
    prefect.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return name


def take(prefect: SyncPrefectClient, limit: str) -> int:
    """Take the slot, and return how many slots are taken then."""
    prefect.increment_concurrency_slots_with_lease(
        [limit], slots=1, mode="concurrency", lease_duration=60
    )
    return prefect.read_global_concurrency_limit_by_name(limit).active_slots


def test_a_slot_can_be_taken_after_the_storage_has_refused_its_lease(
    prefect: SyncPrefectClient, storage: Storage, limit: str
) -> None:
    storage.fill()
    try:
        with pytest.raises(PrefectHTTPStatusError) as refused:
            take(prefect, limit)
    finally:
        storage.free()

    assert refused.value.response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert take(prefect, limit) == 1


def test_an_older_client_can_take_a_slot_after_the_storage_has_refused_its_lease(
    prefect: SyncPrefectClient, storage: Storage
) -> None:
    limit, tag = tagged(prefect)
    storage.fill()
    try:
        with pytest.raises(PrefectHTTPStatusError) as refused:
            take_as_older_client(prefect, tag)
    finally:
        storage.free()

    assert refused.value.response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    take_as_older_client(prefect, tag)
    assert prefect.read_global_concurrency_limit_by_name(limit).active_slots == 1


def tagged(prefect: SyncPrefectClient) -> tuple[str, str]:
    """Return the name of a new limit with one slot, and its tag."""
    tag = f"tag-{uuid4()}"
    limit = GlobalConcurrencyLimitCreate(name=f"tag:{tag}", limit=1)
    prefect.create_global_concurrency_limit(limit)
    return limit.name, tag


def take_as_older_client(prefect: SyncPrefectClient, tag: str) -> None:
    taken = {"names": [tag], "task_run_id": str(uuid4())}
    prefect.request("POST", "/concurrency_limits/increment", json=taken)


def test_a_slot_whose_lease_is_stored_stays_taken(prefect: SyncPrefectClient, limit: str) -> None:
    assert take(prefect, limit) == 1
    with pytest.raises(PrefectHTTPStatusError) as locked:
        take(prefect, limit)
    assert locked.value.response.status_code == httpx.codes.LOCKED
