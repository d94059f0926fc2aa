"""How long the reaper waits before it acts."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class ReaperPeriods:
    """The settings of the reaper; docs/operations/housekeeping.md explains each.

    With None for `end_silent`, a run whose container lives is never ended.
    """

    grace: timedelta
    submission: timedelta
    unstartable: timedelta
    silence: timedelta
    lost_node: timedelta
    end_silent: timedelta | None
    hooks: timedelta
    succeeded_job: timedelta


def minutes(period: timedelta) -> str:
    """Return a period in the words of a message."""
    return f"{period.total_seconds() / 60:.0f} min"
