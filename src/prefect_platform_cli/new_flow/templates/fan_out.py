"""Process many items at the same time, within a concurrency limit that all runs share.

An item that fails does not stop the others. The result of each item is stored, so a retry of the
run processes only the items that have not succeeded.
"""

from typing import Any

from prefect import flow, task
from prefect.concurrency.sync import concurrency
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from lib.local_run import temporary_server

# Declared in platform.yaml, and granted to the work pool.
LIMIT = "fan-out"
# Threads of one run. Any, because the types of Prefect do not accept its own task runner.
THREADS: Any = ThreadPoolTaskRunner(max_workers=8)


# The list is stored as well, so that a retry of the run works on the same items.
@task(persist_result=True, result_serializer="json")
def find_items() -> list[str]:
    """Return the items to process: replace the example with your own."""
    return [f"item-{number}" for number in range(1, 21)]


@task(
    task_run_name="process-{item}",
    retries=3,
    retry_delay_seconds=exponential_backoff(10),
    retry_jitter_factor=0.5,
    persist_result=True,
    result_serializer="json",
)
def process(item: str) -> int:
    """Process one item and return a number: replace the example with your own work."""
    # A slot that is held by a killed process becomes free when its lease expires.
    with concurrency(LIMIT, strict=True):
        return len(item)


@flow(name="fan-out", log_prints=True, task_runner=THREADS)
def fan_out(items: list[str] | None = None) -> int:
    """Process all items and return the sum of their numbers.

    Args:
        items: What to process. Without it: what `find_items` returns.
    """
    found = find_items() if items is None else items
    states = process.map(found, return_state=True)
    failed = [item for item, state in zip(found, states, strict=True) if not state.is_completed()]
    print(f"{len(found) - len(failed)} of {len(found)} items are processed")
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(found)} items failed: {', '.join(failed)}")
    return sum(state.result() for state in states)


if __name__ == "__main__":
    with temporary_server():
        fan_out()
