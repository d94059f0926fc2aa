"""Commands as a user runs and interrupts them in a terminal."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL

from prefect_platform_cli.host.paths import REPOSITORY
from tests.cluster.deployed import CLUSTER

PLATFORM = str(Path(sys.executable).with_name("prefect-platform"))


def make(target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile against the cluster of these tests, and wait for its end."""
    return subprocess.run(
        make_command(target, **variables),
        cwd=REPOSITORY,
        env=_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )


def make_command(target: str, **variables: str) -> list[str]:
    """Return the command line of a target, without its echo and without a rebuild of .venv."""
    given = [f"{name}={value}" for name, value in variables.items()]
    return ["make", "--silent", "--old-file=.venv/ready", f"PLATFORM={PLATFORM}", target, *given]


@contextmanager
def started(command: list[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command in its own process group, as a shell does in the foreground of a terminal.

    Standard error goes to standard output. Processes that are left at the end are killed.
    """
    with subprocess.Popen(
        # When a shell runs the tests in the background, their children would ignore Ctrl-C.
        ["env", "--default-signal=INT", *command],
        cwd=REPOSITORY,
        env=_environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k not in {"DOCKER_HOST", "KUBECONFIG"}}
    return {**inherited, "CLUSTER_NAME": CLUSTER, "COLUMNS": "200", **variables}
