"""What the logs of runs leave out."""

import logging

from prefect.exceptions import FailedRun

from lib.refusal import Refusal


def without_tracebacks_of_refusals() -> None:
    """Keep the engine from adding a traceback to the sentence of a refusal."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    # A flow that returns a failed state reaches the engine's own log as FailedRun.
    if record.exc_info and isinstance(record.exc_info[1], Refusal | FailedRun):
        record.exc_info = None
    return True
