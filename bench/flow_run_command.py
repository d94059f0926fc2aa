"""Compare the processor time of the command of job pods with Prefect's own command.

`python -m bench.flow_run_command` starts its own Prefect server. In each round, both commands
execute a run of an empty flow, as a job pod does. The processor time is the one of the command with
all its processes, without the server. For a short run, use `--rounds 2`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from prefect_platform.console import step
from tests.support.servers import api_client, clean_environment, prefect_server

COMMANDS = {
    "prefect flow-run execute": ("prefect", "flow-run", "execute"),
    "python -m prefect_platform.flow_run": ("prefect_platform.flow_run",),
}
_FLOW = "from prefect import flow\n\n\n@flow\ndef empty() -> None:\n    pass\n"


def deployed(api: str, directory: Path) -> str:
    """Write an empty flow to a directory and return the id of its deployment."""
    (directory / "empty.py").write_text(_FLOW)
    where = {"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}
    with api_client(api) as client:
        flow = client.post("flows/", json={"name": "empty"}).json()["id"]
        deployment = {
            "name": "bench",
            "flow_id": flow,
            "entrypoint": "empty.py:empty",
            "pull_steps": [where],
        }
        return str(client.post("deployments/", json=deployment).json()["id"])


def executed(
    api: str, deployment: str, command: tuple[str, ...], environment: dict[str, str]
) -> tuple[float, float]:
    """Execute a new run; return its CPU seconds and seconds. Raises RuntimeError if it fails."""
    with api_client(api) as client:
        made = client.post(f"deployments/{deployment}/create_flow_run", json={}).json()["id"]
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", *command, made],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        used = os.wait4(process.pid, 0)[2]
        seconds = time.monotonic() - began
        state = client.get(f"flow_runs/{made}").json()["state"]
    if state["type"] != "COMPLETED":
        raise RuntimeError(f"the run is {state['name']}: {state['message']}")
    return used.ru_utime + used.ru_stime, seconds


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the CPU seconds and the seconds of each run by its command."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        (home / "pod").mkdir()
        with prefect_server(home) as api:
            deployment = deployed(api, home)
            environment = clean_environment(
                home / "pod",
                PREFECT_API_URL=api,
                PREFECT_PLUGINS_ENABLED="true",
                PREFECT_PLUGINS_ALLOW="first-connection,pod-token,result-writes",
                DO_NOT_TRACK="1",
            )
            for number in range(rounds):
                for name, command in COMMANDS.items():
                    with step(f"round {number + 1}: {name}"):
                        measured[name].append(executed(api, deployment, command, environment))
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the medians and the ranges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    table = Table("command", "CPU seconds", "seconds")
    for name, runs in measure(given.rounds).items():
        columns = [[run[column] for run in runs] for column in (0, 1)]
        table.add_row(
            name, *(f"{median(each):.1f} ({min(each):.1f}-{max(each):.1f})" for each in columns)
        )
    Console().print(table)


if __name__ == "__main__":
    main()
