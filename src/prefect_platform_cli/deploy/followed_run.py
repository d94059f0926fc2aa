"""Follow a flow run: print its states and the lines of its log as they come."""

import datetime as dt
import math
from collections.abc import Iterator
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterTimestamp
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.sorting import LogSort

from prefect_platform.console import err, out
from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until
from prefect_platform_cli.deploy.first_run import require_completed

_EVERY = 0.5  # seconds; a person waits
_FLUSHED_WITHIN = 2.5  # seconds; a pod sends its log every two
_LATE = dt.timedelta(minutes=1)  # the worker and the pod send their lines independently
_PAGE = 200  # the most log lines that the server returns for one request


def follow(client: SyncPrefectClient, run: FlowRun) -> None:
    """Print what happens in a run until it ends.

    Raises PlatformError unless it completes, and on Ctrl-C, after which the run goes on.
    """
    try:
        for each in _news(client, run):
            if isinstance(each, Log):
                out.print(f"{each.timestamp:%H:%M:%S} {each.message}", markup=False)
            else:
                run = each
                message = run.state.message if run.state else None
                err.print(
                    ": ".join(filter(None, [run.name, run.state_name, message])), markup=False
                )
    except KeyboardInterrupt:
        raise PlatformError(
            f"the run {run.name} goes on, but its log is no longer followed",
            next_step=f"make logs RUN={run.name}",
        ) from None
    require_completed(run)


def _news(client: SyncPrefectClient, run: FlowRun) -> Iterator[FlowRun | Log]:
    """Yield the run, again whenever its state changes, and each line of its log."""
    log = _RunLog(client, run.id)

    def changes() -> list[FlowRun | Log]:
        nonlocal run
        before, run = run, client.read_flow_run(run.id)
        return [*([run] if run.state != before.state else []), *log.new_lines()]

    yield run
    while run.state is None or not run.state.is_final():
        yield from wait_until(changes, math.inf, every=_EVERY)
    while lines := wait_until(log.new_lines, _FLUSHED_WITHIN, every=_EVERY):
        yield from lines


class _RunLog:
    def __init__(self, client: SyncPrefectClient, run_id: UUID) -> None:
        self._client = client
        self._run_id = run_id
        self._seen: dict[UUID, dt.datetime] = {}

    def new_lines(self) -> list[Log]:
        """Return the lines that no earlier call has returned, oldest first."""
        newest = max(self._seen.values(), default=None)
        wanted = LogFilter(
            flow_run_id=LogFilterFlowRunId(any_=[self._run_id]),
            timestamp=LogFilterTimestamp(after_=newest - _LATE) if newest else None,
        )
        found: list[Log] = []
        while page := self._client.read_logs(
            wanted, limit=_PAGE, offset=len(found), sort=LogSort.TIMESTAMP_ASC
        ):
            found += page
        new = [line for line in found if line.id not in self._seen]
        self._seen |= {line.id: line.timestamp for line in new}
        return new
