"""What happened during a trial: the history that the validators judge."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Wanted:
    """A run that was wanted from the time `since`.

    It has to complete, unless a fault is about this run: then it has to crash for `crash`.
    """

    name: str
    since: datetime
    crash: str | None = None

    def accepts(self, state: "State") -> bool:
        """Return whether the run may end in this state."""
        if self.crash is None:
            return state.name == "Completed"
        return state.name == "Crashed" and self.crash in (state.message or "")


@dataclass(frozen=True)
class State:
    """A state that the API recorded for a run."""

    type: str
    name: str
    since: datetime
    message: str | None = None

    @property
    def final(self) -> bool:
        """Return whether a run in this state has ended."""
        return self.type in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    def __str__(self) -> str:
        return f"{self.name} ({self.message})" if self.message else self.name


@dataclass(frozen=True)
class Run:
    """A run that the API has, with its states, oldest first."""

    id: str
    name: str
    states: tuple[State, ...]

    @property
    def ends(self) -> tuple[State, ...]:
        """Return the final states."""
        return tuple(state for state in self.states if state.final)


@dataclass(frozen=True)
class Job:
    """A Job that is left at the end, and the type of its run's state; None if the run is gone."""

    name: str
    active: bool
    run_state: State | None


@dataclass(frozen=True)
class Pod:
    """A pod of a run, and the time in which its container ran."""

    name: str
    run_id: str
    started: datetime
    ended: datetime | None


@dataclass(frozen=True)
class Row:
    """A row of the warehouse, which an attempt of a run inserts first and completes last.

    An attempt with `limited` holds a slot of the limit from `began` to `ended`.
    """

    attempt: int
    run_id: str
    began: datetime
    ended: datetime | None
    limited: bool


@dataclass(frozen=True)
class Slots:
    """How many slots of the limit were taken at a time, as the API said."""

    at: datetime
    taken: int


@dataclass(frozen=True)
class History:
    """The history of one trial, in which `fault` was injected at `injected`."""

    fault: str
    limit: int
    injected: datetime
    wanted: tuple[Wanted, ...]
    runs: tuple[Run, ...]
    jobs: tuple[Job, ...]
    pods: tuple[Pod, ...]
    rows: tuple[Row, ...]
    slots: tuple[Slots, ...]
    """Oldest first. The last one is of the end, when no run needs a slot any more."""
    notified: tuple[str, ...] | None = None
    """The name of the run in each notification of a crash that was received.

    None if there was no receiver, because no fault of the trial adds a run that crashes.
    """

    disrupted: tuple[tuple[datetime, datetime], ...] = ()
    """The periods in which faults ended pods of runs, each with its beginning and its end."""

    def json(self) -> str:
        """Return the history as JSON."""
        return TypeAdapter(History).dump_json(self, indent=1).decode()

    def is_hit(self, run_id: str) -> bool:
        """Return whether a fault may have ended a pod of the run."""
        return any(
            pod.run_id == run_id
            and pod.started <= end
            and (pod.ended is None or pod.ended >= begin)
            for begin, end in self.disrupted
            for pod in self.pods
        )

    def rows_of(self, run: Run) -> tuple[Row, ...]:
        """Return the rows of a run."""
        return tuple(row for row in self.rows if row.run_id == run.id)
