"""A plugin of Prefect: a result that cannot be written fails its run.

Prefect writes a task's result after it has called the run Completed, logs a failed write and goes
on: the retries of the task stay unused, and what it computed is gone with the pod. A flow's result
is lost the same way. Here a write is tried again for RESULT_WRITE_SECONDS; then it is a failure of
the run like any other, with its cause, its retries and its hooks. What cannot be serialized is left
to Prefect, which warns: no other try would write it.

Prefect loads it as it is imported, in each process that has PREFECT_PLUGINS_ENABLED.
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

# What Prefect has swallowed since the innermost `_told` began; None outside of one.
_swallowed: ContextVar[list[Exception] | None] = ContextVar("swallowed", default=None)

_persist = ResultStore.persist_result_record
_apersist = ResultStore.apersist_result_record
_exit = Transaction.__exit__
_aexit = AsyncTransaction.__aexit__
_roll_back = BaseTaskRunEngine.handle_rollback


class ResultNotWritten(Exception):  # noqa: N818 - it reports an outcome
    """The storage did not take a result, however often it was tried within the bound."""


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make every run of this process try its writes again, and fail by one that is lost."""
    # A run is `python -m prefect.engine`, a module that is imported above, too. Prefect itself has
    # both of them; it only imports the second one later.
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
    """Write a record; a result is tried again until it is there or the bound has passed."""
    with _explained(self, result_record):
        Retrying(**_tries())(_persist, self, result_record, holder)


async def apersist_result_record(
    self: ResultStore, result_record: "ResultRecord[Any]", holder: str | None = None
) -> None:
    """Write a record; a result is tried again until it is there or the bound has passed."""
    with _explained(self, result_record):
        await AsyncRetrying(**_tries())(_apersist, self, result_record, holder)


def exit_transaction(self: Transaction, *exc_info: Any) -> None:  # noqa: ANN401 - as Prefect's
    """End a transaction; raises ResultNotWritten when its commit was given up for that."""
    with _told():
        _exit(self, *exc_info)


async def aexit_transaction(self: AsyncTransaction, *exc_info: Any) -> None:  # noqa: ANN401
    """End a transaction; raises ResultNotWritten when its commit was given up for that."""
    with _told():
        await _aexit(self, *exc_info)


async def return_value_to_state(retval: Any, **options: Any) -> State[Any]:  # noqa: ANN401
    """Return the state that a flow ends in; raises ResultNotWritten when its result is lost."""
    try:
        with _told():
            return await _to_state(retval, **options)
    except ResultNotWritten:
        # A flow that returns its own failure has told a cause already.
        if isinstance(retval, State) and retval.is_failed():
            return retval
        raise


def handle_rollback(self: BaseTaskRunEngine[Any, Any], txn: Transaction) -> None:
    """Take back what a task returned when its result is lost: its engine will raise instead."""
    if _swallowed.get():
        self._return_value = NotSet
    else:
        _roll_back(self, txn)


@contextmanager
def _told() -> Iterator[None]:
    """Raise what Prefect swallows meanwhile."""
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
        name = getattr(storage, "_block_document_name", None) or "without a name"
        failure = ResultNotWritten(
            f"The result {record.metadata.storage_key} was not written to the"
            f" {type(storage).__name__} {name}: {type(error).__name__}: {error}\n"
            "Next: see docs/operations/results.md, then run it again"
        )
        if (failures := _swallowed.get()) is not None:
            failures.append(failure)
        raise failure from error


def _tries() -> dict[str, Any]:
    # What is written elsewhere gets one try: the exception of a failed run, which its state and log
    # have too, and what a flow writes by itself, which is told.
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
        "A result was not written, and is tried again in %.0f s: %s",
        state.upcoming_sleep,
        state.outcome.exception() if state.outcome else None,
    )
