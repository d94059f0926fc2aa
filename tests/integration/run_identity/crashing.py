"""A flow whose process is killed, with a hook that uses the API afterwards."""

import os
import signal
from typing import Any

from prefect import Flow, State, flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger


def on_crashed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's signature
    """Read the run, and log what its state is."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(flow_run.id)
    flow_run_logger(flow_run, flow).info("the hook has read %s", found.state_name)


@flow(on_crashed=[on_crashed])
def crashing() -> None:
    """End as by the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)
