"""Processes that need the same result compute it once, and a killed process blocks no other."""

import asyncio
import pickle
from pathlib import Path

import pytest
from redis import Redis
from redis.client import Pipeline

from prefect_platform.polling import wait_until
from prefect_platform.result_locks import URL_VARIABLE, LeasedLocks
from tests.integration.results.computing import LEASE
from tests.integration.results.pods import Pods


@pytest.fixture
def locks(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> LeasedLocks:
    monkeypatch.setenv(URL_VARIABLE, redis_url)
    return LeasedLocks(LEASE)


def _computed(journal: Path) -> list[str]:
    return journal.read_text().splitlines() if journal.exists() else []


def _files(directory: Path) -> dict[str, str]:
    return {name: str(directory / name) for name in ("journal", "gate")}


def test_two_processes_with_the_same_key_compute_only_once(
    pods: Pods, redis_url: str, tmp_path: Path
) -> None:
    journal, locks = tmp_path / "journal", {URL_VARIABLE: redis_url}
    first, second = (
        pods.create("computing_alone", number=11, **_files(tmp_path)) for _ in range(2)
    )
    with pods.started(first, **locks) as one, pods.started(second, **locks) as other:
        assert wait_until(lambda: _computed(journal), 60), pods.log(first)
        assert wait_until(lambda: _all_have_a_task_run(pods, first, second), 60), pods.log(second)
        (tmp_path / "gate").touch()
        one.wait(60)
        other.wait(60)

    assert _computed(journal) == ["computed 11"]
    states = sorted(pods.task_states(first) + pods.task_states(second))
    assert states == ["Cached", "Completed"], pods.log(first) + pods.log(second)


def _all_have_a_task_run(pods: Pods, *runs: str) -> bool:
    found = pods.post("task_runs/filter", {"flow_runs": {"id": {"any_": list(runs)}}})
    return len(found) == len(runs)


def test_another_process_computes_after_the_lock_holder_is_killed(
    pods: Pods, redis_url: str, tmp_path: Path
) -> None:
    journal, locks = tmp_path / "journal", {URL_VARIABLE: redis_url}
    killed, successor = (
        pods.create("computing_alone", number=12, **_files(tmp_path)) for _ in range(2)
    )
    with pods.started(killed, **locks) as holder:
        assert wait_until(lambda: _computed(journal), 60), pods.log(killed)
        holder.kill()
        holder.wait()
    (tmp_path / "gate").touch()
    with pods.started(successor, **locks) as process:
        process.wait(60 + LEASE)

    assert _computed(journal) == ["computed 12"] * 2
    assert pods.state(successor)["type"] == "COMPLETED", pods.log(successor)


def test_a_task_that_cannot_reach_redis_fails_with_its_address(pods: Pods, tmp_path: Path) -> None:
    run = pods.run(
        "computing_alone",
        variables={URL_VARIABLE: "redis://127.0.0.1:1/0"},
        number=13,
        **_files(tmp_path),
    )

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "127.0.0.1:1" in state["message"]
    assert not _computed(tmp_path / "journal")


def test_a_lock_is_renewed_while_it_is_held(locks: LeasedLocks, redis_url: str) -> None:
    assert locks.acquire_lock("renewed", "me")
    assert not locks.acquire_lock("renewed", "you", acquire_timeout=1.5 * LEASE)
    assert locks.is_lock_holder("renewed", "me")
    locks.release_lock("renewed", "me")
    assert not locks.is_locked("renewed")
    assert not Redis.from_url(redis_url).exists("result-lock:renewed")


def test_a_lock_with_a_hold_timeout_expires_while_its_holder_is_alive(locks: LeasedLocks) -> None:
    assert locks.acquire_lock("ending", "me", hold_timeout=0.3)
    assert locks.wait_for_lock("ending", timeout=10)
    assert not locks.is_lock_holder("ending", "me")


def test_releasing_a_lock_of_another_holder_changes_nothing(locks: LeasedLocks) -> None:
    assert locks.acquire_lock("kept", "me")
    locks.release_lock("kept", "you")
    assert locks.is_lock_holder("kept", "me")
    assert locks.acquire_lock("kept", "me", acquire_timeout=0)
    locks.release_lock("kept", "me")
    locks.release_lock("kept", "me")


def test_a_lock_that_changes_hands_while_it_is_released_is_left_alone(
    locks: LeasedLocks, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Pipeline.multi

    def change_hands(pipeline: Pipeline) -> None:
        Redis.from_url(redis_url).set("result-lock:passed", "you", px=60_000)
        begin(pipeline)

    assert locks.acquire_lock("passed", "me", hold_timeout=60)
    monkeypatch.setattr(Pipeline, "multi", change_hands)
    locks.release_lock("passed", "me")
    assert locks.is_lock_holder("passed", "you")


def test_a_waiting_coroutine_times_out_or_acquires_the_released_lock(locks: LeasedLocks) -> None:
    async def wait() -> bool:
        assert not await locks.aacquire_lock("awaited", "you", acquire_timeout=0.3)
        waiting = asyncio.create_task(locks.aacquire_lock("awaited", "you"))
        locks.release_lock("awaited", "me")
        return await waiting

    assert locks.acquire_lock("awaited", "me")
    assert asyncio.run(wait())
    locks.release_lock("awaited", "you")
    assert asyncio.run(locks.await_for_lock("awaited", timeout=10))


def test_a_pickled_copy_shares_its_locks_with_the_original(locks: LeasedLocks) -> None:
    copy: LeasedLocks = pickle.loads(pickle.dumps(locks))  # noqa: S301 - pickled here
    assert locks.acquire_lock("shared", "me")
    assert copy.is_lock_holder("shared", "me")
    copy.release_lock("shared", "me")
    assert not locks.is_locked("shared")
    locks.release_lock("shared", "me")


def test_a_missing_redis_address_is_reported_with_the_variable_to_set(
    locks: LeasedLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL_VARIABLE)
    with pytest.raises(ValueError, match=r"RESULT_LOCKS_URL(.|\n)*Next: "):
        locks.acquire_lock("anything", "me")
