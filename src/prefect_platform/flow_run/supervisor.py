"""Prefect's command `flow-run execute`, with the process of the engine forked beforehand.

Everything that supervises the engine is Prefect's command itself. It starts the engine by a
request to the forked process, which waits for it, instead of by a new Python process.
"""

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

# The supervisor and the engine need both, and neither starts a thread.
import prefect.cli.flow_run
import prefect.flow_engine  # noqa: F401
from prefect.cli import app
from prefect.logging import configuration, get_logger
from prefect.runner import _starter_engine

from prefect_platform.flow_run import certificates, engine
from prefect_platform.flow_run.engine_process import EngineProcess


def main() -> None:
    """Execute the run that the argument or PREFECT__FLOW_RUN_ID names, and exit like Prefect."""
    certificates.load_late()
    # Otherwise each process copies the memory of the imports when it looks for garbage.
    gc.freeze()
    gc.enable()
    # Libraries start threads that Python does not know, and a fork would lose those as well.
    if len([*Path("/proc/self/task").iterdir()]) == 1:
        receiver, sender = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(sender)
            engine.main(receiver)
            return
        os.close(receiver)
        starter: Any = _starter_engine
        starter.run_process = EngineProcess(pid, sender).run
    else:
        names = [each.name for each in threading.enumerate() if each != threading.main_thread()]
        get_logger("flow_run").warning(
            "Prefect is imported again for the pull steps and the engine, because its import has"
            " started threads, which a fork would lose: %s",
            ", ".join(names) or "threads of a library, without a name in Python",
        )
    # The import has set up the logs, and the command would do so again with the same settings.
    logs: Any = configuration
    logs.setup_logging = lambda: logs.PROCESS_LOGGING_CONFIG
    sys.argv[1:1] = ["flow-run", "execute"]
    app()
