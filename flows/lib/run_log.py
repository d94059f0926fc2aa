"""Filters for the logs of flow and task runs."""

import logging

from prefect.exceptions import FailedRun

from lib.refusal import Refusal


def without_tracebacks_of_refusals() -> None:
    """Keep Prefect's engine from logging a traceback with a Refusal."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    # Prefect logs a flow that returns a failed state as the exception FailedRun.
    if record.exc_info and isinstance(record.exc_info[1], Refusal | FailedRun):
        record.exc_info = None
    return True
