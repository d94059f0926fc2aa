"""Each validator accepts the history of a good trial, and catches a violation of its promise."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos import validators
from tests.chaos.history import History, Job, Pod, Row, Run, Slots, State, Wanted
from tests.chaos.validators import judge

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_LIMIT = 2


def at(second: float) -> datetime:
    return _BEGIN + timedelta(seconds=second)


_COMPLETED = State("COMPLETED", "Completed", at(12))
_RUNNING = State("RUNNING", "Running", at(2))
_CRASHED = State("CRASHED", "Crashed", at(12), "its Job was lost")
_ONE = Run("1", "one", (_RUNNING, _COMPLETED))
_TWO = Run("2", "two", (_RUNNING, _COMPLETED))
GOOD = History(
    fault="api-killed",
    limit=_LIMIT,
    injected=at(5),
    wanted=(Wanted("one", at(0)), Wanted("two", at(6))),
    runs=(_ONE, _TWO),
    jobs=(Job("job-of-one", active=False, run_state=_COMPLETED),),
    pods=(Pod("pod-of-one", "1", at(1), at(13)), Pod("pod-of-two", "2", at(7), at(13))),
    rows=(Row(1, "1", at(3), at(6), limited=True), Row(2, "2", at(8), at(11), limited=True)),
    slots=(Slots(at(4), 1), Slots(at(14), 0)),
)


def with_doomed(end: State) -> History:
    """Return the good history, and a run in it that had to crash because its Job was lost."""
    doomed = Run("3", "doomed", (_RUNNING, end))
    wanted = (*GOOD.wanted, Wanted("doomed", at(5), crash="its Job was lost"))
    return replace(GOOD, wanted=wanted, runs=(*GOOD.runs, doomed))


def with_runs(*runs: Run) -> History:
    return replace(GOOD, runs=runs)


def with_rows(*rows: Row) -> History:
    return replace(GOOD, rows=rows)


def with_pods(*pods: Pod) -> History:
    return replace(GOOD, pods=pods)


def with_jobs(*jobs: Job) -> History:
    return replace(GOOD, jobs=jobs)


def with_slots(*slots: Slots) -> History:
    return replace(GOOD, slots=slots)


@pytest.mark.parametrize(
    ("validator", "history", "violation"),
    [
        pytest.param(*case, id=case[2])
        for case in (
            (
                validators.every_wanted_run_ends_exactly_once,
                with_runs(_ONE),
                "two was created 0 times",
            ),
            (
                validators.every_wanted_run_ends_exactly_once,
                with_runs(_ONE, _TWO, replace(_TWO, id="3")),
                "two was created 2 times",
            ),
            (
                validators.every_wanted_run_ends_exactly_once,
                with_runs(_ONE, replace(_TWO, states=(_RUNNING,))),
                "two has no final state",
            ),
            (
                validators.every_wanted_run_ends_exactly_once,
                with_runs(_ONE, replace(_TWO, states=(_RUNNING, _CRASHED))),
                "two ended as Crashed (its Job was lost)",
            ),
            (
                validators.every_wanted_run_ends_exactly_once,
                with_runs(_ONE, replace(_TWO, states=(_RUNNING, _COMPLETED, _COMPLETED))),
                "two ended as Completed, Completed",
            ),
            (
                validators.pods_of_a_run_do_not_overlap,
                with_pods(Pod("a", "1", at(1), at(5)), Pod("b", "1", at(4), at(9))),
                "the pods a and b of the run 1 overlap",
            ),
            (
                validators.pods_of_a_run_do_not_overlap,
                with_pods(Pod("a", "1", at(1), None), Pod("b", "1", at(4), at(9))),
                "the pods a and b of the run 1 overlap",
            ),
            (
                validators.the_limit_is_kept,
                with_rows(*(Row(n, str(n), at(n), at(9), limited=True) for n in range(3))),
                f"3 runs held 2 slots at {at(2)}",
            ),
            (
                validators.the_limit_is_kept,
                with_slots(Slots(at(4), 3), Slots(at(14), 0)),
                f"the API counted 3 of 2 slots at {at(4)}",
            ),
            (
                validators.no_slot_is_left_without_a_run,
                with_slots(Slots(at(14), 1)),
                "1 slots are taken although no run is left",
            ),
            (
                validators.no_slot_is_left_without_a_run,
                with_slots(),
                "the API never said how many slots are taken",
            ),
            (
                validators.no_job_is_left_without_a_run,
                with_jobs(Job("orphan", active=False, run_state=None)),
                "the Job orphan has no run",
            ),
            (
                validators.no_job_is_left_without_a_run,
                with_jobs(Job("late", active=True, run_state=_CRASHED)),
                "the Job late is active although its run is Crashed",
            ),
            (
                validators.every_completed_run_has_exactly_one_row,
                with_rows(GOOD.rows[0]),
                "two completed and has 0 rows",
            ),
            (
                validators.every_completed_run_has_exactly_one_row,
                with_rows(*GOOD.rows, replace(GOOD.rows[1], attempt=3)),
                "two completed and has 2 rows",
            ),
            (
                validators.every_completed_run_has_exactly_one_row,
                with_rows(GOOD.rows[0], replace(GOOD.rows[1], ended=None)),
                "two completed and its row is incomplete",
            ),
            (
                validators.the_platform_recovers,
                replace(GOOD, injected=at(7)),
                "no run that was wanted after the fault has completed",
            ),
            (
                validators.every_notification_is_delivered_once,
                replace(with_doomed(_CRASHED), notified=()),
                "doomed crashed 1 times and was reported 0 times",
            ),
            (
                validators.every_notification_is_delivered_once,
                replace(with_doomed(_CRASHED), notified=("doomed", "doomed")),
                "doomed crashed 1 times and was reported 2 times",
            ),
            (
                validators.every_notification_is_delivered_once,
                replace(GOOD, notified=("one",)),
                "one crashed 0 times and was reported 1 times",
            ),
            (
                validators.every_wanted_run_ends_exactly_once,
                with_doomed(replace(_CRASHED, message="the pod was evicted")),
                "doomed ended as Crashed (the pod was evicted)",
            ),
            (
                validators.every_wanted_run_ends_exactly_once,
                with_doomed(_COMPLETED),
                "doomed ended as Completed",
            ),
        )
    ],
)
def test_a_violation_is_caught(
    validator: Callable[[History], Iterator[str]], history: History, violation: str
) -> None:
    assert violation in list(validator(history))
    assert f"{validator.__name__}: {violation}" in judge(history).violations


def test_a_good_history_has_no_violation_and_its_figures_are_counted() -> None:
    verdict = judge(GOOD)

    assert verdict.violations == ()
    assert (verdict.wanted, verdict.completed, verdict.doubled, verdict.lost) == (2, 2, 0, 0)
    assert verdict.recovered == 7


def test_a_run_that_has_to_crash_is_not_lost_if_it_crashes_for_its_reason() -> None:
    reported = replace(with_doomed(_CRASHED), notified=("doomed",))
    crashed, completed = judge(reported), judge(with_doomed(_COMPLETED))

    assert crashed.violations == ()
    assert (crashed.wanted, crashed.completed, crashed.lost) == (3, 2, 0)
    assert completed.lost == 1


def test_doubled_and_lost_runs_are_counted_once_each() -> None:
    doubled = judge(with_rows(*GOOD.rows, *GOOD.rows))
    lost = judge(replace(with_rows(), runs=(_ONE,)))

    assert (doubled.completed, doubled.doubled, doubled.lost) == (2, 2, 0)
    assert (lost.completed, lost.doubled, lost.lost) == (1, 0, 2)
    assert lost.recovered is None


def ended_by_the_fault(*states: State, rows: tuple[Row, ...]) -> History:
    """Return the good history, and a run in it whose pod a fault ended at 6 s."""
    hit = Run("3", "hit", (_RUNNING, *states))
    pods = (*GOOD.pods, Pod("pod-of-hit", "3", at(4), at(6)))
    return replace(
        GOOD,
        wanted=(*GOOD.wanted, Wanted("hit", at(0))),
        runs=(*GOOD.runs, hit),
        pods=pods,
        rows=(*GOOD.rows, *rows),
        disrupted=((at(5), at(7)),),
    )


_CUT = Row(3, "3", at(4), None, limited=True)
_AGAIN = Row(4, "3", at(9), at(11), limited=True)


@pytest.mark.parametrize(("end", "rows"), [(_CRASHED, (_CUT,)), (_COMPLETED, (_CUT, _AGAIN))])
def test_a_run_whose_pod_a_fault_ends_may_crash_or_start_again(
    end: State, rows: tuple[Row, ...]
) -> None:
    verdict = judge(ended_by_the_fault(end, rows=rows))

    assert verdict.violations == ()
    assert (verdict.wanted, verdict.doubled, verdict.lost) == (3, 0, 0)


@pytest.mark.parametrize(
    ("history", "violation"),
    [
        (
            replace(ended_by_the_fault(_CRASHED, rows=()), disrupted=()),
            "hit ended as Crashed (its Job was lost)",
        ),
        (
            ended_by_the_fault(_CRASHED, _COMPLETED, rows=(_CUT, _AGAIN)),
            "hit ended as Crashed (its Job was lost), Completed",
        ),
        (
            ended_by_the_fault(_COMPLETED, rows=(replace(_CUT, ended=at(6)), _AGAIN)),
            "hit completed and has 2 rows",
        ),
        (ended_by_the_fault(_COMPLETED, rows=(_CUT,)), "hit completed and has 0 rows"),
    ],
)
def test_a_lost_or_doubled_run_is_found_although_a_fault_ends_pods(
    history: History, violation: str
) -> None:
    assert any(each.endswith(f": {violation}") for each in judge(history).violations)


_SPANS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda span: (span[0], sum(span))),
    max_size=8,
)


@settings(deadline=None)
@given(_SPANS)
def test_the_limit_is_kept_exactly_if_no_moment_has_more_holders(
    spans: list[tuple[int, int]],
) -> None:
    rows = (Row(n, str(n), at(a), at(b), limited=True) for n, (a, b) in enumerate(spans))
    most = max((sum(a <= moment < b for a, b in spans) for moment in range(30)), default=0)

    assert bool(list(validators.the_limit_is_kept(with_rows(*rows)))) == (most > _LIMIT)


@settings(deadline=None)
@given(_SPANS)
def test_pods_of_one_run_overlap_exactly_if_they_share_a_moment(
    spans: list[tuple[int, int]],
) -> None:
    pods = (Pod(str(n), "1", at(a), at(b)) for n, (a, b) in enumerate(spans))
    shared = any(sum(a <= moment < b for a, b in spans) > 1 for moment in range(30))

    assert bool(list(validators.pods_of_a_run_do_not_overlap(with_pods(*pods)))) == shared


def test_rows_without_a_slot_and_pods_of_other_runs_are_no_violation() -> None:
    rows = (Row(n, str(n), at(1), None, limited=False) for n in range(3))
    pods = (Pod(str(n), str(n), at(1), None) for n in range(3))

    assert list(validators.the_limit_is_kept(with_rows(*rows))) == []
    assert list(validators.pods_of_a_run_do_not_overlap(with_pods(*pods))) == []


def test_a_history_is_kept_as_json() -> None:
    kept = json.loads(GOOD.json())

    assert kept["runs"][0]["states"][1]["name"] == "Completed"
    assert kept["rows"][0]["ended"] == "2026-01-01T00:00:06Z"
