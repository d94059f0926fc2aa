"""Check that every result can be read back unchanged, and measure the rates of both directions.

`python -m bench.results` starts its own Prefect server, PostgreSQL and SeaweedFS. 20 processes
write 1,000 results of 1 MB as the tasks of job pods do, through the block of the local environment.
As many processes read them back and compare their content. The rates are compared with those of
plain S3 clients, which are measured in the same run. For a short run, use
`--results 60 --processes 4`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prefect_platform.console import step
from tests.integration.results.conftest import running_pods, running_store
from tests.integration.results.pods import Pods

SIZE = 1_000_000
# Writes or reads a range of results: through the block in a flow, as a pod does, or with a plain
# S3 client.
_PROGRAM = """
import hashlib, sys
verb, first, last, size = sys.argv[1], *map(int, sys.argv[2:])
def content(number):
    return hashlib.shake_256(str(number).encode()).digest(size)
numbers = range(first, last)
if verb.startswith("bare"):
    import boto3
    s3 = boto3.client("s3")
    for number in numbers:
        place = {"Bucket": "results", "Key": f"default/bare-{number}"}
        if verb == "bare-write":
            s3.put_object(**place, Body=content(number))
        elif s3.get_object(**place)["Body"].read() != content(number):
            sys.exit(f"{number} differs")
else:
    from prefect import flow, task
    from prefect.cache_policies import INPUTS
    @task(cache_policy=INPUTS)
    def piece(number):
        if verb == "read":
            raise LookupError(f"{number} was not found")
        return content(number)
    @flow(persist_result=False)
    def pieces():
        for number in numbers:
            if piece(number) != content(number):
                raise ValueError(f"{number} differs")
    pieces()
"""


def timed(pods: Pods, verb: str, count: int, processes: int) -> float:
    """Divide `count` results among parallel processes; return the seconds, raise if one fails."""
    began = time.monotonic()
    bounds = [count * part // processes for part in range(processes + 1)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, verb, str(first), str(last), str(SIZE)],
            env=pods.environment({"RESULT_WRITE_SECONDS": "120"}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first, last in pairwise(bounds)
    ]
    errors = [process.communicate()[1] for process in running]
    failed = [error for process, error in zip(running, errors, strict=True) if process.returncode]
    if failed:
        raise RuntimeError(f"{len(failed)} of {processes} processes failed: {failed[0][-2000:]}")
    return time.monotonic() - began


def measure(count: int, processes: int) -> dict[str, float]:
    """Return the seconds of each verb."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        home = Path(directory)
        for name in ("store", "server", "pods"):
            (home / name).mkdir()
        store = stack.enter_context(running_store(home / "store"))
        pods = stack.enter_context(running_pods(store, home / "server", home / "pods"))
        seconds = {}
        for verb in ("bare-write", "bare-read", "write", "read"):
            with step(f"{processes} processes: {verb} {count} results"):
                seconds[verb] = timed(pods, verb, count, processes)
    return seconds


def report(seconds: dict[str, float], count: int) -> Table:
    """Return the rates as a table."""
    table = Table("verb", "results per second", "share of a plain client's rate")
    for verb in ("write", "read"):
        bare = seconds[f"bare-{verb}"]
        table.add_row(verb, f"{count / seconds[verb]:.1f}", f"{bare / seconds[verb]:.0%}")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=20)
    given = parser.parse_args(arguments)
    Console().print(report(measure(given.results, given.processes), given.results))
    print(f"{given.results} results were written and read back unchanged")


if __name__ == "__main__":
    main()
