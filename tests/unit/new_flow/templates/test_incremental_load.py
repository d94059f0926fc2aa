import pytest
from prefect import Task

from prefect_platform_cli.new_flow.templates import incremental_load
from tests.support.http_service import serving


def test_the_rows_after_the_watermark_are_requested() -> None:
    requests: list[str] = []

    def answer(_method: str, path: str) -> list[dict[str, int]]:
        requests.append(path)
        return [{"id": 6}, {"id": 7}]

    with serving(answer) as service:
        rows = incremental_load.extract.fn(service, 5)

    assert rows == [{"id": 6}, {"id": 7}]
    assert requests == [f"/rows?after=5&limit={incremental_load.PAGE}"]


@pytest.mark.parametrize(
    "task",
    [
        incremental_load.read_watermark,
        incremental_load.extract,
        incremental_load.load,
    ],
)
def test_a_task_that_failed_is_tried_again_after_longer_and_longer_pauses(
    task: Task[..., object],
) -> None:
    assert task.retries == 3
    assert task.retry_delay_seconds == [10, 20, 40]
