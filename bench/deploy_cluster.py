"""Measure how long it takes to deploy a new cluster, to deploy again, and to destroy the cluster.

`python bench/deploy_cluster.py` uses the existing cache, and `--cold` a separate empty cache, which
is removed afterwards. Each duration is printed in seconds and as a multiple of the median time for
`import prefect` on the same machine, so that results of different machines can be compared.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

_COMMAND = Path(sys.executable).with_name("prefect-platform")
_CLUSTER = {"CLUSTER_NAME": "bench"}
_BASELINE = [sys.executable, "-c", "import prefect.engine"]


def seconds(argv: Sequence[str | Path], environment: Mapping[str, str]) -> float:
    """Run `argv` and return its wall time; an error ends the benchmark."""
    started = time.monotonic()
    subprocess.run(argv, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def measure(environment: Mapping[str, str]) -> dict[str, float]:
    """Return the seconds of each step, in the order in which they ran."""
    variables = {**_CLUSTER, **environment}
    try:
        return {
            "deploy, without an existing cluster": seconds([_COMMAND, "deploy"], variables),
            "deploy again, without changes": seconds([_COMMAND, "deploy"], variables),
            "destroy": seconds([_COMMAND, "destroy"], variables),
        }
    finally:
        subprocess.run([_COMMAND, "destroy"], env={**os.environ, **variables}, check=False)


def main() -> None:
    """Measure, and print the results as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", action="store_true", help="use an empty cache")
    cold = parser.parse_args().cold
    baseline = statistics.median(seconds(_BASELINE, {}) for _ in range(5))
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        caches = ("XDG_CACHE_HOME", "GOCACHE", "GOMODCACHE")
        figures = measure({name: f"{folder}/{name}" for name in caches} if cold else {})
        # Go makes its module cache read-only, which would prevent the removal of the folder.
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    table = Table("step", "seconds", "x import prefect", title="cold" if cold else "warm")
    for name, value in {"import prefect (median of 5)": baseline, **figures}.items():
        table.add_row(name, f"{value:.1f}", f"{value / baseline:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
