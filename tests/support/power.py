"""Simulate a power failure of a private engine and its containers."""

import os
from contextlib import suppress
from signal import SIGKILL

from prefect_platform.polling import wait_while
from prefect_platform_cli.cluster.engine.private import PrivateEngine

_ENDS_WITHIN = 60  # seconds


def lose_power(engine: PrivateEngine) -> None:
    """Kill every process of the engine at once."""

    def remaining() -> list[int]:
        pids = engine.processes()
        for pid in pids:
            with suppress(ProcessLookupError):  # killing one process can end another
                os.kill(pid, SIGKILL)
        return pids

    left = wait_while(remaining, _ENDS_WITHIN, every=0.01)
    assert not left, f"the processes {left} of the engine are still running after {_ENDS_WITHIN} s"
