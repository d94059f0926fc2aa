import subprocess
import sys
from pathlib import Path

from tests.unit.flows.servers import REPOSITORY

EXPORT = [
    *("uv", "export", "--frozen", "--no-hashes", "--no-annotate"),
    *("--all-groups", "--no-emit-project"),
]


def test_the_constraints_are_the_lock() -> None:
    uv = Path(sys.executable).with_name("uv")
    exported = subprocess.run(
        [uv, *EXPORT[1:], "--no-header", "--quiet"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    committed = [line for line in lines if not line.startswith("#")]
    command = " ".join([*EXPORT, "--output-file", "constraints.txt"])
    assert committed == exported.splitlines(), f"constraints.txt is stale: {command}"
