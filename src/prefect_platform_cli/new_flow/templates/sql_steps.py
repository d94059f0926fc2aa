"""Build tables in the warehouse in steps of SQL that depend on each other.

Each step is a task whose result is stored. A retry of the run therefore repeats only the steps that
have not succeeded, and those that depend on a step whose SQL was corrected.
"""

import hashlib
import os
from typing import Any, LiteralString, NamedTuple

import psycopg
from prefect import State, Task, flow, task
from prefect.client.schemas.objects import TaskRun
from prefect.futures import wait
from prefect.tasks import exponential_backoff

from lib.local_run import temporary_server


class Step(NamedTuple):
    """Statements that are executed in one transaction, and the steps that they depend on.

    A step may be repeated after its transaction was committed, so it replaces what it builds.
    """

    sql: LiteralString
    after: tuple[str, ...] = ()


# Each step is below those that it depends on.
STEPS = {
    "numbers": Step("""
        DROP TABLE IF EXISTS numbers;
        CREATE TABLE numbers AS SELECT generate_series(1, 100) AS number;
    """),
    "squares": Step(
        """
        DROP TABLE IF EXISTS squares;
        CREATE TABLE squares AS SELECT number, number * number AS square FROM numbers;
        """,
        after=("numbers",),
    ),
    "totals": Step(
        """
        DROP TABLE IF EXISTS totals;
        CREATE TABLE totals AS SELECT sum(number) AS numbers, sum(square) AS squares FROM squares;
        """,
        after=("squares",),
    ),
}


def connect() -> psycopg.Connection:
    """Return a connection to the warehouse that the environment of the job pod names."""
    return psycopg.connect(
        host=os.environ["WAREHOUSE_HOST"],
        port=int(os.environ.get("WAREHOUSE_PORT", "5432")),
        dbname=os.environ["WAREHOUSE_DATABASE"],
        user=os.environ["WAREHOUSE_USER"],
        password=os.environ["WAREHOUSE_PASSWORD"],
        connect_timeout=10,
        options="-c statement_timeout=600000",
    )


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a retry may help: an error in the SQL itself would only occur again."""
    return not isinstance(state.data, psycopg.ProgrammingError)


@task(
    task_run_name="{name}",
    retries=3,
    retry_delay_seconds=exponential_backoff(10),
    retry_condition_fn=may_pass,
    persist_result=True,
    result_serializer="json",
)
def execute(name: str, sql: LiteralString, after: list[str]) -> str:  # noqa: ARG001 - for the cache key
    """Execute a step, and return a hash of its SQL and of all that it depends on.

    The inputs of a task are in the key of its stored result, so a step is repeated if its SQL, or
    a hash in `after`, is not the one with which it succeeded.
    """
    with connect() as connection:
        connection.execute(sql)
    return hashlib.sha256("".join([sql, *after]).encode()).hexdigest()


@flow(name="sql-steps", log_prints=True)
def sql_steps() -> None:
    """Execute every step when those that it depends on have succeeded.

    If a step fails, those that do not depend on it are still executed.
    """
    futures: dict[str, Any] = {}
    for name, step in STEPS.items():
        futures[name] = execute.submit(name, step.sql, [futures[each] for each in step.after])
    wait(list(futures.values()))
    missing = [name for name, future in futures.items() if not future.state.is_completed()]
    print(f"{len(STEPS) - len(missing)} of {len(STEPS)} steps have succeeded")
    if missing:
        raise RuntimeError(f"steps that have not succeeded: {', '.join(missing)}")


if __name__ == "__main__":
    with temporary_server():
        sql_steps()
