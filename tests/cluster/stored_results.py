"""Flows whose results are followed from pod to pod: the module goes into tests' deployments."""

import datetime as dt
import hashlib
import json
from collections.abc import Callable

import boto3
from botocore.exceptions import ClientError
from prefect import State, flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.client.orchestration import get_client
from prefect.states import Completed
from prefect.transactions import IsolationLevel
from prefect.variables import Variable

from prefect_platform.polling import wait_until
from prefect_platform.result_locks import LeasedLocks

GATE = "gate_of_results"
BEFORE_THE_GATE = 2  # results that a run of `writing` has written when it comes to the gate
_GATE_WITHIN = 180  # seconds


def content(number: int) -> bytes:
    """Return a megabyte that no other number has."""
    return hashlib.shake_256(str(number).encode()).digest(2**20)


def pass_gate() -> None:
    """Wait until the gate is open."""
    if not wait_until(lambda: Variable.get(GATE) is not None, _GATE_WITHIN, every=0.5):
        raise TimeoutError(f"the variable {GATE} is not there after {_GATE_WITHIN} s")


@flow
def returning(number: int) -> bytes:
    """Return a result of its own."""
    return content(number)


@flow(persist_result=False)
def reading(of: str) -> State[None]:
    """Tell the hash of what another run has returned."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(of).state  # type: ignore[arg-type]
    assert state is not None
    return Completed(message=hashlib.sha256(state.result()).hexdigest())


@task(cache_policy=INPUTS, cache_expiration=dt.timedelta(hours=1), result_serializer="json")
def square(number: int) -> int:
    """Compute."""
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
    """Compute until the gate is open."""
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
    """Write the results from `first` to before `last`, some of them once the gate is open."""
    for number in range(first, last):
        if number == first + BEFORE_THE_GATE:
            print("begins")  # noqa: T201 - what the test waits for
            pass_gate()
        piece(number)


@flow(persist_result=False)
def checking(first: int, last: int) -> State[None]:
    """Tell which of the results are there whole, without another computation."""
    states = {number: piece(number, return_state=True) for number in range(first, last)}
    whole = [
        number
        for number, state in states.items()
        if state.name == "Cached" and state.result() == content(number)
    ]
    return Completed(message=json.dumps(whole))


@flow(persist_result=False)
def trespassing() -> State[None]:
    """Tell what the key of the pod gets where it has no business."""
    s3 = boto3.client("s3")

    def said(attempt: Callable[[], object]) -> str:
        try:
            attempt()
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "got it"

    found = {
        "results of another pool": said(
            lambda: s3.get_object(Bucket="results", Key="other/theirs")
        ),
        "a result put there": said(
            lambda: s3.put_object(Bucket="results", Key="other/mine", Body=b"mine")
        ),
        "a list of all results": said(lambda: s3.list_objects_v2(Bucket="results")),
        "a backup": said(lambda: s3.get_object(Bucket="backups", Key="dump")),
        "a list of backups": said(lambda: s3.list_objects_v2(Bucket="backups")),
        "raw data put there": said(lambda: s3.put_object(Bucket="raw", Key="mine", Body=b"mine")),
    }
    return Completed(message=json.dumps(found))
