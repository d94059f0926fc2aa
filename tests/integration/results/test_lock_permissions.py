"""The user of the locks may do what the locks need, and nothing else."""

import logging
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from prefect_platform.polling import wait_until
from prefect_platform.result_locks import URL_VARIABLE, LeasedLocks
from tests.integration.results.computing import LEASE
from tests.integration.results.locks_redis import LocksRedis, deployed, documented
from tests.integration.results.pods import Pods


@pytest.fixture(scope="module", params=[documented, deployed], ids=lambda start: start.__name__)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocksRedis]:
    with request.param(tmp_path_factory.mktemp("locks")) as server:
        yield server


@pytest.fixture
def locks(server: LocksRedis, monkeypatch: pytest.MonkeyPatch) -> LeasedLocks:
    monkeypatch.setenv(URL_VARIABLE, server.url)
    return LeasedLocks(LEASE)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which the messages of the locks are added."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("prefect.result_locks")
    monkeypatch.setattr(logger, "handlers", [Collector()])
    return found


def test_locks_use_every_granted_command_and_are_refused_none(
    server: LocksRedis, locks: LeasedLocks, warnings: list[str]
) -> None:
    administrator = server.administrator()
    administrator.config_resetstat()
    administrator.acl_log_reset()

    assert locks.acquire_lock("used", "me")
    assert not locks.acquire_lock("used", "you", acquire_timeout=0)
    assert locks.is_lock_holder("used", "me")
    assert not locks.wait_for_lock("used", timeout=1.5 * LEASE)  # it is renewed
    locks.release_lock("used", "you")
    assert locks.is_locked("used")
    locks.release_lock("used", "me")
    assert not administrator.exists("result-lock:used")

    statistics = administrator.info("commandstats")
    used = {
        each.removeprefix("cmdstat_") for each, count in statistics.items() if count["calls"] > 0
    }
    assert _granted(server) <= used
    # Newer clients announce themselves with CLIENT SETINFO, and ignore the refusal.
    refused = [each["object"] for each in administrator.acl_log()]
    assert not [each for each in refused if not each.startswith("client")]
    assert warnings == []


def _granted(server: LocksRedis) -> set[str]:
    commands = server.administrator().acl_getuser("result-locks")["commands"]
    return {each.removeprefix("+") for each in commands if each.startswith("+")}


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "SCAN 0",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "ACL SETUSER result-locks +@all",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "MONITOR",
        "SAVE",
        "SHUTDOWN",
        "SELECT 1",
        "PUBLISH channel message",
        "EVAL return 0",
        "EVAL_RO return 0",
        "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
        "SCRIPT LOAD return",
        "FUNCTION LIST",
        "GET prefect",
        "SET prefect value",
        "DEL result-locks",
        "EXISTS prefect",
        "LPUSH result-lock:list value",
    ],
)
def test_every_other_command_and_key_is_refused(server: LocksRedis, command: str) -> None:
    with pytest.raises(NoPermissionError):
        server.client().execute_command(*command.split())


def test_the_default_user_cannot_log_in(server: LocksRedis) -> None:
    for login in ("", ":of-the-locks@", "default:@"):
        with pytest.raises(AuthenticationError):
            Redis.from_url(f"redis://{login}127.0.0.1:{server.port}/0").ping()
    # Protected mode refuses other hosts while the default user needs no password.
    assert "nopass" not in server.administrator().acl_getuser("default")["flags"]


def test_no_file_and_no_log_of_redis_contains_the_password(server: LocksRedis) -> None:
    files = [path for path in server.home.rglob("*") if path.is_file()]
    assert {path.name for path in files} & {"users.acl", "users.conf"}
    assert all("of-the-locks" not in path.read_text() for path in files)


@pytest.fixture
def without(server: LocksRedis, request: pytest.FixtureRequest) -> Iterator[None]:
    """Take a permission from the user of the locks until the test ends."""
    change = ("ACL", "SETUSER", "result-locks")
    server.administrator().execute_command(*change, f"-{request.param}")
    yield
    server.administrator().execute_command(*change, f"+{request.param}")


@pytest.mark.parametrize("without", ["get", "set"], indirect=True)
@pytest.mark.usefixtures("without")
def test_a_missing_permission_is_explained(locks: LeasedLocks) -> None:
    with pytest.raises(
        NoPermissionError, match=r"refused its user: .*permissions.* '[gs]et' (.|\n)*Next: .*md#"
    ) as refused:
        locks.acquire_lock("refused", "me")
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("without", ["pexpire", "del"], indirect=True)
@pytest.mark.usefixtures("without")
def test_a_lock_that_may_not_be_renewed_or_released_is_reported(
    locks: LeasedLocks, warnings: list[str], request: pytest.FixtureRequest
) -> None:
    action = {"pexpire": "renewed", "del": "released"}[request.node.callspec.params["without"]]
    assert locks.acquire_lock(action, "me")
    if action == "released":
        locks.release_lock(action, "me")
    wanted = (
        f"The lock of the result {action} was not {action}: the Redis at {URL_VARIABLE} refused"
    )
    assert wait_until(lambda: [each for each in warnings if each.startswith(wanted)], 10)
    assert locks.wait_for_lock(action, timeout=10)


@pytest.mark.parametrize(
    "login", ["result-locks:secret@", ":secret@", ""], ids=["password", "default user", "none"]
)
def test_a_wrong_user_or_password_is_explained_without_the_password(
    server: LocksRedis, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    monkeypatch.setenv(URL_VARIABLE, f"redis://{login}127.0.0.1:{server.port}/0")
    with pytest.raises(AuthenticationError, match=r"refused its user: (.|\n)*Next: ") as refused:
        LeasedLocks().is_locked("anything")
    assert "secret" not in str(refused.value)


def test_a_task_that_redis_refuses_fails_with_the_page_to_compare(
    pods: Pods, server: LocksRedis
) -> None:
    files = {name: str(server.home / name) for name in ("journal", "gate")}
    refused = {URL_VARIABLE: f"redis://result-locks:wrong@127.0.0.1:{server.port}/0"}
    run = pods.run("computing_alone", variables=refused, number=14, **files)

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "docs/operations/results.md#restrict-the-user-of-the-locks" in state["message"]
    assert not (server.home / "journal").exists()
