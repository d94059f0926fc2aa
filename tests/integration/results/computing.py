"""The flows of these tests; each run is a process of its own, as it is a pod on the platform.

What they compute is noted in a file, a line a computation, so that tests count them.
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
_GATE_WITHIN = 60
_HOUR = dt.timedelta(hours=1)


def _note(account: str, line: str) -> None:
    with Path(account).open("a") as notes:
        notes.write(f"{line}\n")


def content(number: int, size: int) -> bytes:
    """Return `size` bytes that no other number has."""
    return hashlib.shake_256(str(number).encode()).digest(size)


@task(cache_policy=INPUTS - "account", cache_expiration=_HOUR, result_serializer="json")
def square(number: int, account: str) -> int:
    """Compute, and note it."""
    _note(account, f"squared {number}")
    return number * number


@task(cache_policy=INPUTS - "account", retries=1, retry_delay_seconds=0)
def cube(number: int, account: str) -> int:
    """Compute, and note it."""
    _note(account, f"cubed {number}")
    return number**3


@task(
    cache_policy=(INPUTS - "account" - "gate").configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=LeasedLocks(LEASE)
    ),
)
def exclusive(number: int, account: str, gate: str) -> int:
    """Note the start of a computation, and end it when the file `gate` is there."""
    _note(account, f"computed {number}")
    if not wait_until(Path(gate).exists, _GATE_WITHIN):
        raise TimeoutError(f"{gate} is not there after {_GATE_WITHIN} s")
    return number


@flow
def computing_alone(number: int, account: str, gate: str) -> int:
    """Return what `exclusive` computes."""
    return exclusive(number, account, gate)


@flow
def squaring(number: int, account: str) -> int:
    """Return a square, from the cache if it is there."""
    return square(number, account)


@flow
def submitting(number: int, account: str) -> int:
    """Return a cube of a task in a thread."""
    return cube.submit(number, account).result()


@flow
async def cubing(number: int, account: str) -> int:
    """Return a cube, computed in a flow that is asynchronous."""

    @task(cache_policy=INPUTS - "account")
    async def acube(number: int, account: str) -> int:
        _note(account, f"cubed {number}")
        return number**3

    return await acube(number, account)


@flow
def in_a_transaction(number: int, account: str) -> None:
    """Compute where the commit is the transaction's."""
    with transaction():
        cube(number, account)


@task(cache_policy=INPUTS)
def verdict(number: int) -> Exception:
    """Return an exception as a value."""
    return ValueError(number)


@flow(persist_result=False)
def judging(number: int, account: str) -> None:
    """Call a task whose value is an exception."""
    verdict(number)
    _note(account, f"judged {number}")


@flow(persist_result=True)
def returning(number: int, size: int) -> bytes:
    """Return a result of its own, without a task."""
    return content(number, size)


@flow
def failing() -> State[Any]:
    """Fail by itself, with a cause of its own."""
    return Failed(message="a cause of its own")


@task(cache_policy=INPUTS - "account")
def refusal(number: int, account: str) -> State[Any]:
    """Return a failure of its own."""
    _note(account, f"refused {number}")
    return Failed(message="refused")


@flow
def refusing(number: int, account: str) -> State[Any]:
    """Call a task twice that returns a failure, and tell the states."""
    states = [refusal(number, account, return_state=True) for _ in range(2)]
    return Completed(message=", ".join(f"{each.name} {each.type.value}" for each in states))


@flow(retries=2, retry_delay_seconds=0)
def failing_again(account: str) -> State[Any]:
    """Return a failure of its own, however often it is tried."""
    _note(account, "tried")
    return Failed(message="a cause of its own")


@flow(persist_result=False)
def reading(of: str) -> State[Any]:
    """Tell the hash of the result that another run has returned."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(of).state  # type: ignore[arg-type]
    assert state is not None
    found = state.result()
    return Completed(message=hashlib.sha256(found).hexdigest())


@task(cache_policy=INPUTS, retries=0)
def piece(number: int, size: int) -> bytes:
    """Return a result that can be told from all others."""
    return content(number, size)


@flow
def pieces(count: int, size: int, account: str, gate: str) -> None:
    """Write one result, wait until the file `gate` is there, and write the others."""
    for number in range(count):
        piece(number, size)
        _note(account, f"piece {number}")
        if not wait_until(Path(gate).exists, _GATE_WITHIN):
            raise TimeoutError(f"{gate} is not there after {_GATE_WITHIN} s")
