"""How long `make deploy-cluster` takes: from nothing, again, and its removal.

`python bench/deploy_cluster.py` measures with what the cache holds, `--cold` with an empty cache
of its own, which is removed afterwards. Each figure is in seconds and as a multiple of the same
machine's median time for `import prefect`, so that figures of different machines compare.
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
    """Run `argv` and return its wall time; ends the bench when it fails."""
    started = time.monotonic()
    subprocess.run(argv, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def measure(environment: Mapping[str, str]) -> dict[str, float]:
    """Return the seconds of each step, in the order of running."""
    variables = {**_CLUSTER, **environment}
    try:
        return {
            "deploy, from no cluster to the table": seconds([_COMMAND, "deploy"], variables),
            "deploy again, nothing to change": seconds([_COMMAND, "deploy"], variables),
            "destroy": seconds([_COMMAND, "destroy"], variables),
        }
    finally:
        subprocess.run([_COMMAND, "destroy"], env={**os.environ, **variables}, check=False)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", action="store_true", help="with an empty cache")
    cold = parser.parse_args().cold
    baseline = statistics.median(seconds(_BASELINE, {}) for _ in range(5))
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        caches = ("XDG_CACHE_HOME", "GOCACHE", "GOMODCACHE")
        figures = measure({name: f"{folder}/{name}" for name in caches} if cold else {})
        # Go makes its module cache read-only, which a folder's removal stumbles over.
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    table = Table("step", "seconds", "x import prefect", title="cold" if cold else "warm")
    for name, value in {"import prefect (median of 5)": baseline, **figures}.items():
        table.add_row(name, f"{value:.1f}", f"{value / baseline:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
