"""Measure what run identity adds to each request of a flow run.

`python -m bench.run_identity` starts a Kubernetes API server and a Prefect server with SQLite. In
turn, it sends the same request with the auth string and with the token of a run's pod, and compares
the medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from prefect_platform.console import step
from tests.integration.run_identity.conftest import (
    AUTH,
    Objects,
    World,
    create_objects,
    running_world,
)

Request = tuple[str, str, object]
"""Method, path and body."""

_WARM_UP = 100  # pairs


def requests(ids: Objects) -> dict[str, Request]:
    """Return what a run often sends: without a decision, about one object, and about many."""
    line = {"name": "flow", "level": 20, "message": "x" * 200, "flow_run_id": ids.own}
    logs = [{**line, "timestamp": "2026-01-01T00:00:00Z"} for _ in range(50)]
    return {
        "version": ("GET", "/admin/version", None),
        "own run": ("GET", f"/flow_runs/{ids.own}", None),
        "50 log lines": ("POST", "/logs/", logs),
    }


def milliseconds(client: httpx.Client, request: Request) -> float:
    """Send a request; raises httpx.HTTPStatusError if it is refused."""
    method, path, body = request
    began = time.perf_counter()
    client.request(method, path, json=body).raise_for_status()
    return (time.perf_counter() - began) * 1000


def measure(world: World, pairs: int) -> Table:
    """Return a table of the medians."""
    ids = create_objects(world)
    bearer = {"Authorization": f"Bearer {world.token(ids.own)}"}
    table = Table("request", "auth string p50", "token p50", "difference", "ratio")
    with (
        httpx.Client(base_url=world.url, auth=AUTH, timeout=60) as with_auth_string,
        httpx.Client(base_url=world.url, headers=bearer, timeout=60) as with_token,
    ):
        for name, request in requests(ids).items():
            with step(f"{pairs} pairs of requests: {name}"):
                both = [
                    (milliseconds(with_auth_string, request), milliseconds(with_token, request))
                    for _ in range(_WARM_UP + pairs)
                ][_WARM_UP:]
            before, after = (statistics.median(each) for each in zip(*both, strict=True))
            table.add_row(
                name,
                *(f"{value:.2f} ms" for value in (before, after, after - before)),
                f"{after / before:.2f}",
            )
    return table


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as directory:
        kubernetes, prefect = (Path(directory, name) for name in ("kubernetes", "prefect"))
        kubernetes.mkdir()
        prefect.mkdir()
        with running_world(kubernetes, prefect) as world:
            Console().print(measure(world, pairs))


if __name__ == "__main__":
    main()
