"""Linters that are Go programs: Helm's over every way to install a chart, and Terraform's.

`python -m tests.support.linters charts|terraform` fails when one has found something; `format`
writes Terraform's files. The programs are built on the first call, as all of this repository.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prefect_platform.console import out
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import ensure_tools, tool
from tests.support.rendering import STORIES, arguments

_TERRAFORM = REPOSITORY / "terraform"

Command = Sequence[str | Path]


def charts() -> Iterator[tuple[str, Command]]:
    """Yield the name and the call of `helm lint` of each story."""
    for name, story in STORIES.items():
        lint = (tool("helm"), "lint", "--strict", "--quiet", *arguments(story))
        yield f"helm lint of {story.chart} as tests.support.rendering.STORIES[{name!r}]", lint


def terraform() -> Iterator[tuple[str, Command]]:
    """Yield the check of the format of Terraform's files, and of what is in them."""
    yield (
        "tofu fmt, which `make format` puts right",
        (tool("tofu"), f"-chdir={_TERRAFORM}", "fmt", "-check", "-diff", "-recursive"),
    )
    yield (
        "tflint",
        (
            *(tool("tflint"), f"--chdir={_TERRAFORM}", "--recursive"),
            *("--minimum-failure-severity=notice", f"--config={_TERRAFORM / '.tflint.hcl'}"),
        ),
    )


def formatting() -> Iterator[tuple[str, Command]]:
    """Yield the call that writes Terraform's files in their format."""
    yield "tofu fmt", (tool("tofu"), f"-chdir={_TERRAFORM}", "fmt", "-recursive")


_GROUPS: Mapping[str, tuple[Sequence[str], Callable[[], Iterator[tuple[str, Command]]]]] = {
    "charts": (["helm"], charts),
    "terraform": (["tofu", "tflint"], terraform),
    "format": (["tofu"], formatting),
}


def main() -> int:
    """Run the linters of the group that is asked for; return 1 when one has found something."""
    (group,) = sys.argv[1:]
    programs, linters = _GROUPS[group]
    ensure_tools(programs)
    # Settings and plugins of the user's home directory do not count.
    environment = {"PATH": os.environ["PATH"], "HOME": str(_TERRAFORM)}
    failed = [
        name
        for name, command in linters()
        if subprocess.run(command, env=environment, check=False).returncode
    ]
    for name in failed:
        out.print(f"failed: {name}", markup=False, soft_wrap=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
