"""The daily ETL: delays and cancellations of one day's flights out of New York in 2013.

On the platform it reads from a bucket and writes to the warehouse. `python flows/etl_daily.py` runs
the same flow without a platform: it reads the data of an installed package and writes to SQLite and
a local folder.
"""

import argparse
import datetime as dt
import sys
from typing import Any

from prefect import State, Task, flow, runtime, task
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed
from prefect.tasks import exponential_backoff

from lib import destination
from lib.delays import Delays, summarise
from lib.destination import Destination
from lib.flight_days import DayFiles, parse_day, read_day, same_day_in_2013
from lib.local_run import temporary_server
from lib.refusal import NotYet, Refusal
from lib.run_log import without_tracebacks_of_refusals

without_tracebacks_of_refusals()


def _worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    # The data of a failed task's state is its exception.
    return isinstance(state.data, NotYet) or not isinstance(state.data, Refusal)


@task(
    retries=3,
    retry_delay_seconds=[10, 60, 300],
    retry_condition_fn=_worth_another_try,
    # The default policy includes the id of the flow run, so no other run could use the cache.
    cache_policy=INPUTS + TASK_SOURCE,
    cache_expiration=dt.timedelta(hours=1),
    persist_result=True,
    # JSON, not pickle: text survives upgrades of Python, and reading it runs no code.
    result_serializer="json",
)
def extract(day: dt.date, source: str) -> DayFiles:
    """Read the day's CSV files from `source`, a bucket or the installed package; see `read_day`."""
    files = read_day(source, day)
    for name, text in files.items():
        print(f"{name}: {len(text.splitlines()) - 1} rows from {source}")
    return files


@task(retries=2, retry_delay_seconds=exponential_backoff(2), cache_policy=NO_CACHE)
def transform(day: dt.date, files: DayFiles) -> list[Delays]:
    """Group the day's flights by carrier, origin and weather."""
    return summarise(day, files)


@task(
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=_worth_another_try,
    # The task is run for its side effect, so a cached result must never replace it.
    cache_policy=NO_CACHE,
)
def load(day: dt.date, rows: list[Delays], target: Destination) -> str:
    """Replace the day in `target` and return where its rows and its Parquet object are."""
    return target.store(day, rows)


@flow(name="etl-daily", log_prints=True)
def etl_daily(date: dt.date | str | None = None) -> dict[str, Any] | State[Any]:
    """Load delays and cancellations of one day by carrier, origin and weather.

    Args:
        date: The day, from 2013-01-01 to 2013-12-31. Without it: the month and day of the run's
            scheduled start in UTC, in 2013 (29 February becomes the 28th).
    """
    try:
        day = (
            same_day_in_2013(runtime.flow_run.scheduled_start_time)
            if date is None
            else parse_day(date)
        )
        target = destination.from_environment()
        print(f"{day}: from {target}")
        files = extract(day, target.source)
        rows = transform(day, files)
        where = load(day, rows, target)
    except Refusal as refusal:
        # The refusal becomes the message of the run's state; a traceback would bury it.
        return Failed(message=str(refusal))
    airports = [row for row in rows if row.dimension == "origin"]
    summary = {
        "day": day.isoformat(),
        "flights": sum(row.flights for row in airports),
        "cancelled": sum(row.cancelled for row in airports),
        "rows": len(rows),
        "where": where,
    }
    print(
        "{day}: {flights} flights, {cancelled} cancelled; {rows} rows in {where}".format(**summary)
    )
    return summary


def main() -> int:
    """Run the flow once from the command line; the exit code is 0 when it completed."""
    parser = argparse.ArgumentParser(description="Run the daily ETL once on this machine.")
    parser.add_argument("--date", help="day as YYYY-MM-DD in 2013 (default: today's month and day)")
    date = parser.parse_args().date
    try:
        if date is not None:
            parse_day(date)
        destination.from_environment()
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    with temporary_server():
        return 0 if etl_daily(date, return_state=True).is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
