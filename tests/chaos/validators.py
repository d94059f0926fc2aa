"""The promises that a history has to keep. Each validator yields its violations as sentences."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations

from tests.chaos.history import History, Pod, Row, Run, State, Wanted

_GOOD = "Completed"
_OPEN_END = datetime.max.replace(tzinfo=UTC)


def every_wanted_run_ends_exactly_once(history: History) -> Iterator[str]:
    """Each wanted run was created once, and its only final state is the one it has to end in."""
    by_name = _runs_by_name(history)
    for wanted in history.wanted:
        runs = by_name[wanted.name]
        if len(runs) != 1:
            yield f"{wanted.name} was created {len(runs)} times"
        for run in runs:
            if not run.ends:
                yield f"{run.name} has no final state"
            elif len(run.ends) > 1 or not _may_end(history, wanted, run, run.ends[0]):
                yield f"{run.name} ended as {', '.join(map(str, run.ends))}"


def pods_of_a_run_do_not_overlap(history: History) -> Iterator[str]:
    """No two pods of one run run at the same time."""
    by_run: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in history.pods:
        by_run[pod.run_id].append(pod)
    for run_id, pods in by_run.items():
        for one, other in combinations(pods, 2):
            if one.started < _ended(other) and other.started < _ended(one):
                yield f"the pods {one.name} and {other.name} of the run {run_id} overlap"


def the_limit_is_kept(history: History) -> Iterator[str]:
    """The rows never have more holders at once than the limit, and the API never says so."""
    changes = [
        change
        for row in history.rows
        if row.limited
        for change in ((row.began, 1), (_end_of_attempt(history, row), -1))
    ]
    holders = 0
    for at, change in sorted(changes):  # at one time, a slot is released before it is taken
        holders += change
        if holders > history.limit and change > 0:
            yield f"{holders} runs held {history.limit} slots at {at}"
    for slots in history.slots:
        if slots.taken > history.limit:
            yield f"the API counted {slots.taken} of {history.limit} slots at {slots.at}"


def no_slot_is_left_without_a_run(history: History) -> Iterator[str]:
    """When all runs have ended, the API counts no slot as taken."""
    if not history.slots:
        yield "the API never said how many slots are taken"
    elif taken := history.slots[-1].taken:
        yield f"{taken} slots are taken although no run is left"


def no_job_is_left_without_a_run(history: History) -> Iterator[str]:
    """Each Job that is left has a run, and no Job is active after its run has ended."""
    for job in history.jobs:
        if job.run_state is None:
            yield f"the Job {job.name} has no run"
        elif job.active and job.run_state.final:
            yield f"the Job {job.name} is active although its run is {job.run_state.name}"


def every_completed_run_has_exactly_one_row(history: History) -> Iterator[str]:
    """No row of a completed run is missing, incomplete or doubled."""
    for run in history.runs:
        rows = _rows_that_count(history, run)
        if _completed(run) and len(rows) != 1:
            yield f"{run.name} completed and has {len(rows)} rows"
        elif _completed(run) and rows[0].ended is None:
            yield f"{run.name} completed and its row is incomplete"


def the_platform_recovers(history: History) -> Iterator[str]:
    """A run that was wanted after the fault has completed."""
    if recovery(history) is None:
        yield "no run that was wanted after the fault has completed"


def every_notification_is_delivered_once(history: History) -> Iterator[str]:
    """Each run that crashed was reported once, and no other run."""
    if history.notified is None:
        return
    for run in history.runs:
        crashes = sum(state.name == "Crashed" for state in run.ends)
        if (times := history.notified.count(run.name)) != crashes:
            yield f"{run.name} crashed {crashes} times and was reported {times} times"


VALIDATORS: tuple[Callable[[History], Iterator[str]], ...] = (
    every_wanted_run_ends_exactly_once,
    pods_of_a_run_do_not_overlap,
    the_limit_is_kept,
    no_slot_is_left_without_a_run,
    no_job_is_left_without_a_run,
    every_completed_run_has_exactly_one_row,
    the_platform_recovers,
    every_notification_is_delivered_once,
)


@dataclass(frozen=True)
class Verdict:
    """The figures of a history, and its violations."""

    fault: str
    wanted: int
    completed: int
    doubled: int
    """Wanted runs that were created or executed more than once."""
    lost: int
    """Wanted runs that did not end as they have to, or that completed without a complete row."""
    recovered: float | None
    """Seconds from the fault to the first end of a run that was wanted after it."""
    violations: tuple[str, ...]


def judge(history: History) -> Verdict:
    """Return the verdict on a history."""
    by_name = _runs_by_name(history)
    runs = [by_name[wanted.name] for wanted in history.wanted]
    return Verdict(
        fault=history.fault,
        wanted=len(runs),
        completed=sum(any(map(_completed, each)) for each in runs),
        doubled=sum(
            len(each) > 1 or any(len(_rows_that_count(history, run)) > 1 for run in each)
            for each in runs
        ),
        lost=sum(
            not any(_is_kept(history, wanted, run) for run in by_name[wanted.name])
            for wanted in history.wanted
        ),
        recovered=recovery(history),
        violations=tuple(
            f"{validator.__name__}: {violation}"
            for validator in VALIDATORS
            for violation in validator(history)
        ),
    )


def recovery(history: History) -> float | None:
    """Return the seconds from the fault to the first end of a run that was wanted after it."""
    later = {each.name for each in history.wanted if each.since >= history.injected}
    ends = [
        state.since
        for run in history.runs
        if run.name in later
        for state in run.ends
        if state.name == _GOOD
    ]
    return (min(ends) - history.injected).total_seconds() if ends else None


def _runs_by_name(history: History) -> defaultdict[str, list[Run]]:
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for run in history.runs:
        found[run.name].append(run)
    return found


def _is_kept(history: History, wanted: Wanted, run: Run) -> bool:
    if not any(_may_end(history, wanted, run, state) for state in run.ends):
        return False
    return not _completed(run) or any(row.ended for row in history.rows_of(run))


def _may_end(history: History, wanted: Wanted, run: Run, end: State) -> bool:
    return wanted.accepts(end) or (end.name == "Crashed" and history.is_hit(run.id))


def _rows_that_count(history: History, run: Run) -> list[Row]:
    """Return the rows of a run without those of attempts that the fault ended."""
    hit = history.is_hit(run.id)
    return [row for row in history.rows_of(run) if row.ended or not hit]


def _end_of_attempt(history: History, row: Row) -> datetime:
    """Return when an attempt released its slot; if the fault ended it, when its pod ended."""
    if row.ended or not history.is_hit(row.run_id):
        return row.ended or _OPEN_END
    ends = [_ended(pod) for pod in history.pods if pod.run_id == row.run_id]
    return min((end for end in ends if end >= row.began), default=_OPEN_END)


def _completed(run: Run) -> bool:
    return any(state.name == _GOOD for state in run.ends)


def _ended(pod: Pod) -> datetime:
    return pod.ended or _OPEN_END
