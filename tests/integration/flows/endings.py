"""Flows that end in every way that a supervisor has to notice, with hooks that leave a file."""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

NOTES = Path(os.environ["NOTES"])


def note(name: str, text: str = "") -> None:
    """Leave a file for the test; it appears with its content."""
    unfinished = NOTES / f"{name}.unfinished"
    unfinished.write_text(text)
    unfinished.rename(NOTES / name)


if "HANG" in os.environ:
    note("importing")
    time.sleep(600)


def on_cancellation(flow: object, flow_run: object, state: State[Any]) -> None:  # noqa: ARG001
    """Tell the test that this hook has run."""
    note("on_cancellation", state.name or "")


def on_crashed(flow: object, flow_run: object, state: State[Any]) -> None:  # noqa: ARG001
    """Tell the test that this hook has run."""
    note("on_crashed", state.name or "")


def _handler(number: int) -> str:
    handler = signal.getsignal(number)
    if isinstance(handler, partial):
        handler = handler.func
    return getattr(handler, "__qualname__", str(handler))


@task
def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@flow
def child(number: int) -> int:
    """Return twice the number, as a subflow."""
    return double(number)


@flow(log_prints=True, persist_result=True, result_serializer="json")
def completes(number: int = 1) -> int:
    """Log 200 lines in order, and return twice the number."""
    for line in range(200):
        print(f"line {line}")  # noqa: T201 - a log
    return child(number)


@flow
def fails() -> None:
    """Raise."""
    raise ValueError("of the flow")


@flow
def returns_failed() -> State[Any]:
    """Return a failed state."""
    return Failed(message="of the flow")


@flow(retries=1)
def retries() -> None:
    """Raise in the first attempt."""
    if flow_run.run_count == 1:
        raise ValueError("of the first attempt")


@flow(timeout_seconds=1)
def times_out() -> None:
    """Take longer than allowed."""
    time.sleep(60)


@flow(on_crashed=[on_crashed])
def exits() -> None:
    """End the process behind Prefect's back."""
    os._exit(3)


@flow(on_crashed=[on_crashed])
def is_killed() -> None:
    """End as by the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


@flow(on_crashed=[on_crashed])
def interrupts() -> None:
    """Raise what ends a program."""
    raise KeyboardInterrupt


@flow(on_cancellation=[on_cancellation], on_crashed=[on_crashed])
def waits() -> None:
    """Wait until the test allows the end, and report a termination."""
    note("started")
    try:
        for _ in range(6000):
            if (NOTES / "go").exists():
                break
            time.sleep(0.1)
    finally:
        note("finally")


@flow
async def observes() -> None:
    """Report what a flow can see of its process, apart from the names of its own run."""
    get_run_logger().info("observing")
    own = ("PREFECT__CONTROL_PORT", "PREFECT__FLOW_RUN_ID")
    seen = {
        "directory": str(Path.cwd()),
        "arguments": sys.argv,
        "path": [*dict.fromkeys(sys.path)],
        "environment": {name: text for name, text in os.environ.items() if name not in own},
        "leader": os.getpgid(0) == os.getpid() == os.getsid(0),
        "signals": {each: _handler(each) for each in sorted(signal.valid_signals())},
    }
    note("seen", json.dumps(seen))


@flow
def uses_the_workspace() -> None:
    """Log what the pull steps and the working directory may change."""
    import cyclopts  # noqa: PLC0415 - the module of the working directory, if it has one

    where = Path(cyclopts.__file__).parent
    get_run_logger().info("variable %s, cyclopts in %s", os.environ.get("OF_A_STEP"), where)
