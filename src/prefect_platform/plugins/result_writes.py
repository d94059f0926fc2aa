"""A Prefect plugin: a run fails when its result cannot be written.

Prefect writes the result of a task after it has decided that the run is Completed, and only logs a
failed write: the task is not retried, and its result is lost with the pod. The same happens to the
result of a flow. With this plugin a write is retried for RESULT_WRITE_SECONDS seconds; after that
the run fails like any other, with a cause, retries and hooks. A result that cannot be serialized is
left to Prefect, which logs a warning, because a retry would not help.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect import State, flow_engine
from prefect._internal.result_records import ResultRecord
from prefect.exceptions import MissingContextError, SerializationError
from prefect.logging import get_logger, get_run_logger
from prefect.plugins import HookContext, register_hook
from prefect.results import ResultStore
from prefect.states import return_value_to_state as _to_state
from prefect.task_engine import BaseTaskRunEngine
from prefect.transactions import AsyncTransaction, Transaction
from prefect.utilities.annotations import NotSet
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_not_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

SECONDS_VARIABLE = "RESULT_WRITE_SECONDS"
_SECONDS = "120"
_LONGEST_WAIT = 15.0

# Write failures that Prefect has swallowed since the innermost `_told` began; None outside of it.
_swallowed: ContextVar[list[Exception] | None] = ContextVar("swallowed", default=None)

_persist = ResultStore.persist_result_record
_apersist = ResultStore.apersist_result_record
_exit = Transaction.__exit__
_aexit = AsyncTransaction.__aexit__
_roll_back = BaseTaskRunEngine.handle_rollback


class ResultNotWritten(Exception):  # noqa: N818 - it reports an outcome
    """A result could not be written within RESULT_WRITE_SECONDS."""


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make runs in this process retry the writes of results, and fail when one is lost."""
    # A run is `python -m prefect.engine`, and the imports above load the same module a second time.
    # Prefect itself does that a little later, so the warning can be ignored.
    warnings.filterwarnings("ignore", "'prefect.engine' found in sys.modules", RuntimeWarning)
    ResultStore.persist_result_record = persist_result_record  # type: ignore[method-assign]
    ResultStore.apersist_result_record = apersist_result_record  # type: ignore[method-assign]
    Transaction.__exit__ = exit_transaction  # type: ignore[method-assign]
    AsyncTransaction.__aexit__ = aexit_transaction  # type: ignore[method-assign]
    flow_engine.return_value_to_state = return_value_to_state  # type: ignore[attr-defined,assignment]
    BaseTaskRunEngine.handle_rollback = handle_rollback  # type: ignore[method-assign]


def persist_result_record(
    self: ResultStore, result_record: "ResultRecord[Any]", holder: str | None = None
) -> None:
    """Write a record; the write of a run's result is retried for RESULT_WRITE_SECONDS."""
    with _explained(self, result_record):
        Retrying(**_tries())(_persist, self, result_record, holder)


async def apersist_result_record(
    self: ResultStore, result_record: "ResultRecord[Any]", holder: str | None = None
) -> None:
    """Write a record; the write of a run's result is retried for RESULT_WRITE_SECONDS."""
    with _explained(self, result_record):
        await AsyncRetrying(**_tries())(_apersist, self, result_record, holder)


def exit_transaction(self: Transaction, *exc_info: Any) -> None:  # noqa: ANN401 - as Prefect's
    """End a transaction; raises ResultNotWritten if that is why it was not committed."""
    with _told():
        _exit(self, *exc_info)


async def aexit_transaction(self: AsyncTransaction, *exc_info: Any) -> None:  # noqa: ANN401
    """End a transaction; raises ResultNotWritten if that is why it was not committed."""
    with _told():
        await _aexit(self, *exc_info)


async def return_value_to_state(retval: Any, **options: Any) -> State[Any]:  # noqa: ANN401
    """Return the final state of a flow; raises ResultNotWritten when its result is lost."""
    try:
        with _told():
            return await _to_state(retval, **options)
    except ResultNotWritten:
        # A flow that returns a failed state has reported a cause already.
        if isinstance(retval, State) and retval.is_failed():
            return retval
        raise


def handle_rollback(self: BaseTaskRunEngine[Any, Any], txn: Transaction) -> None:
    """Discard a task's return value when its result is lost, so that its engine raises instead."""
    if _swallowed.get():
        self._return_value = NotSet
    else:
        _roll_back(self, txn)


@contextmanager
def _told() -> Iterator[None]:
    """Raise on exit the first write failure that Prefect swallowed inside the block."""
    failures: list[Exception] = []
    token = _swallowed.set(failures)
    try:
        yield
    finally:
        _swallowed.reset(token)
    if failures:
        raise failures[0]


@contextmanager
def _explained(store: ResultStore, record: "ResultRecord[Any]") -> Iterator[None]:
    try:
        yield
    except SerializationError:
        raise
    except Exception as error:
        storage = store.result_storage
        name = getattr(storage, "_block_document_name", None) or "(unnamed)"
        failure = ResultNotWritten(
            f"The result {record.metadata.storage_key} was not written to the"
            f" {type(storage).__name__} {name}: {type(error).__name__}: {error}\n"
            "Next: see docs/operations/results.md, then start the run again"
        )
        if (failures := _swallowed.get()) is not None:
            failures.append(failure)
        raise failure from error


def _tries() -> dict[str, Any]:
    # Other writes get one attempt: the exception of a failed run, which its state and log also
    # contain, and what a flow writes by itself, because the flow sees the error.
    elsewhere = _swallowed.get() is None
    seconds = 0.0 if elsewhere else float(os.environ.get(SECONDS_VARIABLE, _SECONDS))
    return {
        "retry": retry_if_not_exception_type(SerializationError),
        "stop": stop_before_delay(seconds),
        "wait": wait_random_exponential(max=_LONGEST_WAIT),
        "before_sleep": _warn,
        "reraise": True,
    }


def _warn(state: RetryCallState) -> None:
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
    try:
        logger = get_run_logger()
    except MissingContextError:
        logger = get_logger("results")
    logger.warning(
        "A result could not be written; the next attempt is in %.0f s: %s",
        state.upcoming_sleep,
        state.outcome.exception() if state.outcome else None,
    )
