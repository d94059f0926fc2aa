"""Write the tables in each module's README.md from its variables and outputs.

`python -m tests.terraform.reference` updates them.
"""

import subprocess
from pathlib import Path

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool

COMMAND = ".venv/bin/python -m tests.terraform.reference"
_TERRAFORM = REPOSITORY / "terraform"
MODULES = sorted(path.parent for path in (_TERRAFORM / "modules").rglob("main.tf"))


def terraform_docs(module: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run terraform-docs on a module. It updates README.md unless `options` say otherwise."""
    settings = _TERRAFORM / ".terraform-docs.yml"
    return subprocess.run(
        [tool("terraform-docs"), "--config", settings, *options, module],
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    for each in MODULES:
        terraform_docs(each).check_returncode()
