"""Progress of long work on the terminal: one line per step, with its duration."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class Step:
    """One line of progress; `detail` is added to the line when the step ends."""

    def __init__(self) -> None:
        self.detail = ""


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show `title` with a spinner while the block runs, then a line with its duration."""
    started = time.monotonic()
    current = Step()
    with err.status(title):
        try:
            yield current
        except BaseException:
            err.print(f"[red]✗[/] {title} ({time.monotonic() - started:.0f} s)")
            raise
    detail = f": {current.detail}" if current.detail else ""
    err.print(f"[green]✓[/] {title}{detail} [dim]({time.monotonic() - started:.0f} s)[/]")
