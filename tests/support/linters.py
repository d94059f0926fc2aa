"""Run the linters that are Go programs: those of charts, Terraform and GitHub's workflows.

`python -m tests.support.linters charts|terraform|workflows` fails if a linter finds something;
`format` formats Terraform's files. The programs are built on first use, like all others in this
repository.
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
    """Yield the name and the command of `helm lint` for each story."""
    for name, story in STORIES.items():
        lint = (tool("helm"), "lint", "--strict", "--quiet", *arguments(story))
        yield f"helm lint of {story.chart} as tests.support.rendering.STORIES[{name!r}]", lint


def terraform() -> Iterator[tuple[str, Command]]:
    """Yield the name and the command of each linter for Terraform's files."""
    yield (
        "tofu fmt; run `make format` to fix it",
        (tool("tofu"), f"-chdir={_TERRAFORM}", "fmt", "-check", "-diff", "-recursive"),
    )
    yield (
        "tflint",
        (
            *(tool("tflint"), f"--chdir={_TERRAFORM}", "--recursive"),
            *("--minimum-failure-severity=notice", f"--config={_TERRAFORM / '.tflint.hcl'}"),
        ),
    )


def workflows() -> Iterator[tuple[str, Command]]:
    """Yield the name and the command of the linter for GitHub's workflows."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    files = sorted((REPOSITORY / ".github" / "workflows").glob("*.yaml"))
    yield "actionlint", (tool("actionlint"), f"-shellcheck={shellcheck}", "-pyflakes=", *files)


def formatting() -> Iterator[tuple[str, Command]]:
    """Yield the name and the command of the formatter for Terraform's files."""
    yield "tofu fmt", (tool("tofu"), f"-chdir={_TERRAFORM}", "fmt", "-recursive")


_GROUPS: Mapping[str, tuple[Sequence[str], Callable[[], Iterator[tuple[str, Command]]]]] = {
    "charts": (["helm"], charts),
    "terraform": (["tofu", "tflint"], terraform),
    "workflows": (["actionlint"], workflows),
    "format": (["tofu"], formatting),
}


def main() -> int:
    """Run the linters of the requested group; return 1 if one of them finds something."""
    (group,) = sys.argv[1:]
    programs, linters = _GROUPS[group]
    ensure_tools(programs)
    # Ignore the settings and plugins in the user's home directory.
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
