import psycopg
import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from prefect_platform_cli.new_flow.templates import sql_steps


def test_each_step_is_below_those_that_it_depends_on() -> None:
    above: set[str] = set()
    for name, step in sql_steps.STEPS.items():
        assert set(step.after) <= above, name
        above.add(name)


@pytest.mark.parametrize(
    ("error", "retried"),
    [(psycopg.OperationalError(), True), (psycopg.errors.SyntaxError(), False)],
)
def test_only_what_may_pass_is_tried_again(error: Exception, *, retried: bool) -> None:
    task = sql_steps.execute
    run = TaskRun(task_key="execute", dynamic_key="0")

    assert sql_steps.may_pass(task, run, Failed(data=error)) is retried
