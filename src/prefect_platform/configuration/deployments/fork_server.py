"""Load each flow in a process of its own: the program behind `flow_loader`.

It reads requests from standard input and writes an answer to standard output for each: the facts
about a flow, or the cause and the fix of a failure, as a line of JSON. It imports Prefect once,
which takes more than a second, and then forks for every flow. A flow that hangs, exits or crashes
can therefore affect no other flow, and neither can the modules that it imports. A shared process
for all flows would import their libraries only once, but after a crash it could not tell which
flow is to blame: a flow may fail in a thread that an earlier one started.
"""

import json
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from prefect_platform.configuration.deployments import entrypoints
from prefect_platform.configuration.deployments.entrypoints import EntrypointError, named

_FORK = multiprocessing.get_context("fork")
_FIX = "move what its module does at import into the flow"


def main() -> None:
    """Answer requests until standard input ends, as it does when the parent process ends."""
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(_answer(**json.loads(line)))}\n")
        sys.stdout.flush()


def _answer(directory: str, entrypoint: str, limit: float, *, complete: bool) -> dict[str, Any]:
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(
        target=_load, args=(sender, directory, entrypoint), kwargs={"complete": complete}
    )
    process.start()
    sender.close()
    try:
        if receiver.poll(limit):
            with suppress(EOFError):
                answer: dict[str, Any] = json.loads(receiver.recv_bytes())
                return answer
            process.join(limit)
        return {"cause": f"{named(entrypoint)} {_ended(process.exitcode, limit)}", "fix": _FIX}
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def _ended(code: int | None, limit: float) -> str:
    if code is None:
        return f"did not import within {limit:.0f} s"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended the interpreter with exit code {code}"


def _load(sender: Connection, directory: str, entrypoint: str, *, complete: bool) -> None:
    os.setsid()  # so that the processes that the flow starts can be killed with it
    os.dup2(2, 1)  # standard output belongs to the answers
    try:
        answer = asdict(entrypoints.load(Path(directory), entrypoint, complete=complete))
    except EntrypointError as error:
        answer = {"cause": error.cause, "fix": error.fix}
    sender.send_bytes(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
