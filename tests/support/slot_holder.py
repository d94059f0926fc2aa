"""A flow run in a process of its own that holds the slots of two concurrency limits."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect import flow, runtime, task
from prefect.concurrency.sync import concurrency

from tests.support.servers import REPOSITORY, clean_environment

LIMIT, TAG = "warehouse", "database"


@contextmanager
def slot_holder(api_url: str, folder: Path) -> Iterator[tuple["subprocess.Popen[str]", UUID]]:
    """Start a run that holds a slot of the limit LIMIT and of TAG; yield its process and its ID.

    The run ends when its standard input is closed.
    """
    home = clean_environment(folder, PREFECT_API_URL=api_url, PYTHONPATH=str(REPOSITORY))
    with (folder / "holder.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.slot_holder"],
            env=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "holder.log").read_text()
        yield process, UUID(line.strip())
    finally:
        process.kill()
        process.communicate()


@task(tags=[TAG])
def hold() -> None:
    """Say which run holds the slots, and wait for the end of the standard input."""
    with concurrency(LIMIT, strict=True):
        sys.stdout.write(f"{runtime.flow_run.id}\n")
        sys.stdout.flush()
        sys.stdin.read()


@flow
def holding() -> None:
    """Hold both slots in one task."""
    hold()


if __name__ == "__main__":
    holding()
