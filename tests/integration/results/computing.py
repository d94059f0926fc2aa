"""The flows of these tests; each run is a separate process, as each run is a pod on the platform.

For each computation a line is appended to the file `journal`, so that tests can count them.
"""

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

from prefect import State, flow, task
from prefect.cache_policies import INPUTS
from prefect.client.orchestration import get_client
from prefect.states import Completed, Failed
from prefect.transactions import IsolationLevel, transaction

from prefect_platform.polling import wait_until
from prefect_platform.result_locks import LeasedLocks

LEASE = 3.0
_GATE_TIMEOUT = 60
_HOUR = dt.timedelta(hours=1)


def _record(journal: str, line: str) -> None:
    with Path(journal).open("a") as file:
        file.write(f"{line}\n")


def content(number: int, size: int) -> bytes:
    """Return `size` bytes that differ for each number."""
    return hashlib.shake_256(str(number).encode()).digest(size)


@task(cache_policy=INPUTS - "journal", cache_expiration=_HOUR, result_serializer="json")
def square(number: int, journal: str) -> int:
    """Return the square of a number, and record the computation."""
    _record(journal, f"squared {number}")
    return number * number


@task(cache_policy=INPUTS - "journal", retries=1, retry_delay_seconds=0)
def cube(number: int, journal: str) -> int:
    """Return the cube of a number, and record the computation."""
    _record(journal, f"cubed {number}")
    return number**3


@task(
    cache_policy=(INPUTS - "journal" - "gate").configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=LeasedLocks(LEASE)
    ),
)
def exclusive(number: int, journal: str, gate: str) -> int:
    """Record the start of a computation, and return when the file `gate` exists."""
    _record(journal, f"computed {number}")
    if not wait_until(Path(gate).exists, _GATE_TIMEOUT):
        raise TimeoutError(f"{gate} does not exist after {_GATE_TIMEOUT} s")
    return number


@flow
def computing_alone(number: int, journal: str, gate: str) -> int:
    """Return what `exclusive` computes."""
    return exclusive(number, journal, gate)


@flow
def squaring(number: int, journal: str) -> int:
    """Return a square, from the cache if it has one."""
    return square(number, journal)


@flow
def submitting(number: int, journal: str) -> int:
    """Return a cube that a task computes in a thread."""
    return cube.submit(number, journal).result()


@flow
async def cubing(number: int, journal: str) -> int:
    """Return a cube that an asynchronous task computes."""

    @task(cache_policy=INPUTS - "journal")
    async def acube(number: int, journal: str) -> int:
        _record(journal, f"cubed {number}")
        return number**3

    return await acube(number, journal)


@flow
def in_a_transaction(number: int, journal: str) -> None:
    """Compute a cube whose result is written when the transaction is committed."""
    with transaction():
        cube(number, journal)


@task(cache_policy=INPUTS)
def verdict(number: int) -> Exception:
    """Return an exception as a value."""
    return ValueError(number)


@flow(persist_result=False)
def judging(number: int, journal: str) -> None:
    """Call a task that returns an exception as a value."""
    verdict(number)
    _record(journal, f"judged {number}")


@flow(persist_result=True)
def returning(number: int, size: int) -> bytes:
    """Return a result without running a task."""
    return content(number, size)


@flow
def failing() -> State[Any]:
    """Return a failed state with a message."""
    return Failed(message="a cause of its own")


@task(cache_policy=INPUTS - "journal")
def refusal(number: int, journal: str) -> State[Any]:
    """Record the call, and return a failed state."""
    _record(journal, f"refused {number}")
    return Failed(message="refused")


@flow
def refusing(number: int, journal: str) -> State[Any]:
    """Call a task that returns a failed state twice, and report both states."""
    states = [refusal(number, journal, return_state=True) for _ in range(2)]
    return Completed(message=", ".join(f"{each.name} {each.type.value}" for each in states))


@flow(retries=2, retry_delay_seconds=0)
def failing_again(journal: str) -> State[Any]:
    """Record each attempt, and return a failed state every time."""
    _record(journal, "tried")
    return Failed(message="a cause of its own")


@flow(persist_result=False)
def reading(run_id: str) -> State[Any]:
    """Report the hash of the result that another run returned."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state  # type: ignore[arg-type]
    assert state is not None
    found = state.result()
    return Completed(message=hashlib.sha256(found).hexdigest())


@task(cache_policy=INPUTS, retries=0)
def piece(number: int, size: int) -> bytes:
    """Return a result that differs from all others."""
    return content(number, size)


@flow
def pieces(count: int, size: int, journal: str, gate: str) -> None:
    """Write one result, wait until the file `gate` exists, and write the others."""
    for number in range(count):
        piece(number, size)
        _record(journal, f"piece {number}")
        if not wait_until(Path(gate).exists, _GATE_TIMEOUT):
            raise TimeoutError(f"{gate} does not exist after {_GATE_TIMEOUT} s")
