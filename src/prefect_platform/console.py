"""Progress of long work on the terminal: one line per step, with its duration."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from prefect_platform.visible_text import visible


class _Terminal(Console):
    """A console on which printed text cannot control the terminal; styles still can."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


out = _Terminal(highlight=False, soft_wrap=True, emoji=False)
err = _Terminal(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class Step:
    """One line of progress; `detail` is added to the line when the step ends."""

    def __init__(self) -> None:
        self.detail = ""


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show `title` with a spinner while the block runs, then a line with its duration."""
    started = time.monotonic()
    current = Step()
    title = escape(title)
    with err.status(title):
        try:
            yield current
        except BaseException:
            err.print(f"[red]✗[/] {title} ({time.monotonic() - started:.0f} s)")
            raise
    detail = f": {escape(current.detail)}" if current.detail else ""
    err.print(f"[green]✓[/] {title}{detail} [dim]({time.monotonic() - started:.0f} s)[/]")
