"""Run a program, capture its output, and report a failure with its cause."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect_platform.errors import PlatformError

_TAIL_LINES = 15


def tail(text: str, lines: int = _TAIL_LINES) -> str:
    """Return the last non-empty lines of a program's output, which usually name the cause."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    failure: str,
    next_step: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run `argv` and return its standard output.

    Raises PlatformError when the program is missing, exits with a nonzero code, or takes longer
    than `timeout` seconds. The message starts with `failure` and ends with the last lines that the
    program printed.
    """
    try:
        completed = subprocess.run(
            [str(argument) for argument in argv],
            env=dict(env) if env is not None else None,
            cwd=cwd,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise PlatformError(
            f"{failure}: the program {argv[0]} is not installed", next_step=next_step
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PlatformError(
            f"{failure}: {argv[0]} did not finish within {timeout:.0f} s", next_step=next_step
        ) from error
    if completed.returncode != 0:
        printed = tail(completed.stderr) or tail(completed.stdout) or "it printed nothing"
        raise PlatformError(
            f"{failure}: {argv[0]} exited with {completed.returncode}: {printed}",
            next_step=next_step,
        )
    return completed.stdout
