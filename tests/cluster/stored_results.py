"""Flows whose results other pods read. The tests deploy the source of this module."""

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError
from prefect import State, flow, get_client, runtime, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.states import Completed
from prefect.transactions import IsolationLevel

from prefect_platform.polling import wait_until
from prefect_platform.result_locks import LeasedLocks

OPEN = "open"  # the tag that opens the gate for a run
BEFORE_THE_GATE = 2  # results that a run of `writing` writes before it waits
_GATE_WITHIN = 300  # seconds


def content(number: int) -> bytes:
    """Return a megabyte that is unique to the number."""
    return hashlib.shake_256(str(number).encode()).digest(2**20)


def pass_gate() -> None:
    """Wait until the gate is open for this run."""
    with get_client(sync_client=True) as client:

        def is_open() -> bool:
            return OPEN in client.read_flow_run(runtime.flow_run.id).tags

        if not wait_until(is_open, _GATE_WITHIN, every=0.5):
            raise TimeoutError(f"the run has no tag {OPEN} after {_GATE_WITHIN} s")


@flow
def returning(number: int) -> bytes:
    """Return the content of a number as the result."""
    return content(number)


@flow(persist_result=False)
def reading(of: dict[str, Any]) -> State[None]:
    """Report the hash of the result of another run, whose final state is given as JSON."""
    state = State.model_validate(of)
    return Completed(message=hashlib.sha256(state.result()).hexdigest())


@task(cache_policy=INPUTS, cache_expiration=dt.timedelta(hours=1), result_serializer="json")
def square(number: int) -> int:
    """Compute the square."""
    return number * number


@flow
def squaring(number: int) -> int:
    """Return a square, from the cache if it is there."""
    return square(number)


@task(
    cache_policy=INPUTS.configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=LeasedLocks()
    )
)
def exclusive(number: int) -> int:
    """Take until the gate is open, and return the number."""
    pass_gate()
    return number


@flow(log_prints=True)
def computing_alone(number: int) -> int:
    """Return what `exclusive` computes."""
    print("begins")  # noqa: T201 - what the test waits for
    return exclusive(number)


@task(cache_policy=INPUTS + TASK_SOURCE)
def piece(number: int) -> bytes:
    """Return a megabyte."""
    return content(number)


@flow(log_prints=True, persist_result=False)
def writing(first: int, last: int) -> None:
    """Write the results from `first` to `last` (excluded), most of them when the gate is open."""
    for number in range(first, last):
        if number == first + BEFORE_THE_GATE:
            print("begins")  # noqa: T201 - what the test waits for
            pass_gate()
        piece(number)


@flow(persist_result=False)
def checking(first: int, last: int) -> State[None]:
    """Report which of the results come from the cache and are complete."""
    states = {number: piece(number, return_state=True) for number in range(first, last)}
    whole = [
        number
        for number, state in states.items()
        if state.name == "Cached" and state.result() == content(number)
    ]
    return Completed(message=json.dumps(whole))


@flow(persist_result=False)
def trespassing() -> State[None]:
    """Report how the store answers to requests that the pod's key must not make."""
    s3 = boto3.client("s3")

    def error_code(attempt: Callable[[], object]) -> str:
        try:
            attempt()
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "got it"

    found = {
        "results of another pool": error_code(
            lambda: s3.get_object(Bucket="results", Key="other/theirs")
        ),
        "a result put there": error_code(
            lambda: s3.put_object(Bucket="results", Key="other/mine", Body=b"mine")
        ),
        "a list of all results": error_code(lambda: s3.list_objects_v2(Bucket="results")),
        "a backup": error_code(lambda: s3.get_object(Bucket="backups", Key="dump")),
        "a list of backups": error_code(lambda: s3.list_objects_v2(Bucket="backups")),
        "raw data put there": error_code(
            lambda: s3.put_object(Bucket="raw", Key="mine", Body=b"mine")
        ),
    }
    return Completed(message=json.dumps(found))
