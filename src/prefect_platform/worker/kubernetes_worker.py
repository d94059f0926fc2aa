"""Run Prefect's Kubernetes worker, and report over HTTP whether all of its parts still work.

The health check of `prefect worker start --with-healthcheck` covers polling only, so a dead
observer goes unnoticed for days. Here `GET /health` answers with status 503 and the names of the
parts that have stopped, and the liveness probe restarts the container. In addition, the state of a
run says why its pod is refused or does not start. SIGTERM does not lose a run that is being
submitted. A run whose pods are evicted is started a limited number of times. A slow worker creates
no Job for a run that the reaper has given back. Jobs are built from the chart's base job template,
whatever the copy on the server says. Everything else is Prefect's command, whose arguments are
--name, --pool, --work-queue and --limit.
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import anyio
import httpx
import uvicorn
from anyio.abc import TaskStatus
from fastapi import FastAPI, Response, status
from prefect import cli
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import InfrastructureError, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings.context import get_current_settings
from prefect.workers import server
from prefect.workers.base import BaseWorkerResult
from prefect_kubernetes.worker import (  # type: ignore[import-untyped]
    KubernetesWorker,
    KubernetesWorkerResult,
)

from prefect_platform import container
from prefect_platform.worker import channel_token, evictions, submission
from prefect_platform.worker.base_job_template import BaseJobTemplate
from prefect_platform.worker.due_runs import DueRuns
from prefect_platform.worker.job_configuration import ChartJobConfiguration, RefusedJobVariables
from prefect_platform.worker.observer import Watches
from prefect_platform.worker.pod_refusals import PodRefusals
from prefect_platform.worker.waiting_pods import WaitingPods

_COMMAND = (
    *("prefect", "worker", "start", "--type=kubernetes", "--with-healthcheck"),
    *("--install-policy=never", "--create-pool-if-not-found=false"),
)
# What people correct themselves: job variables, what they refer to, and what Kubernetes refuses.
_REFUSALS = (RefusedJobVariables, PrefectHTTPStatusError, InfrastructureError)
_told: set[UUID] = set()  # runs whose log says why they wait

with warnings.catch_warnings():
    # The class replaces Prefect's own worker of the same type, and Prefect warns about that.
    warnings.simplefilter("ignore")

    class GracefulKubernetesWorker(KubernetesWorker):  # type: ignore[misc]
        """A Kubernetes worker that finishes submitting a run before it stops.

        Prefect's worker cancels submissions when it stops or when another submission fails. Such a
        run would stay Pending forever, because workers only look for Scheduled runs.

        A run crashes instead of starting again after its pods were stopped `max_starts` times, or
        once if its pod was evicted for exceeding a limit of its own.

        While the server's copy of the base job template differs from the chart's, no run starts,
        and `waiting` holds the reason.
        """

        job_configuration = ChartJobConfiguration
        max_starts: ClassVar[int]
        waiting: ClassVar[list[str]] = []
        _due_runs: DueRuns | None = None
        _last_polled_time: datetime

        def _record_work_pool_snapshot(self, work_pool: WorkPool) -> None:
            before = [*self.waiting]
            differing = ChartJobConfiguration.template.differences(work_pool.base_job_template)
            self.waiting[:] = [_waiting(work_pool.name, differing)] if differing else []
            if self.waiting and self.waiting != before:
                self._logger.warning("%s", self.waiting[0])
            super()._record_work_pool_snapshot(work_pool)

        async def _initialize_after_sync(self) -> None:
            await super()._initialize_after_sync()
            if self._due_runs is None and self._work_pool is not None:
                due = DueRuns(self._work_pool.id, self._poll_in_addition, self._logger)
                self._due_runs = await self._exit_stack.enter_async_context(due)

        async def _poll_in_addition(self) -> list[UUID]:
            # The health check is about the polls at the interval.
            before = self._last_polled_time
            try:
                return [each.id for each in await self.get_and_submit_flow_runs()]
            finally:
                self._last_polled_time = before

        async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
            if self.waiting:  # Prefect reads the pool only every 30 seconds
                with suppress(ObjectNotFound):
                    pool = await self.client.read_work_pool(self._work_pool_name)
                    self._record_work_pool_snapshot(pool)
            due: list[WorkerFlowRunResponse] = await super()._get_scheduled_flow_runs()
            if not self.waiting:
                _told.clear()
                return due
            for flow_run in (each.flow_run for each in due if each.flow_run.id not in _told):
                self.get_flow_run_logger(flow_run).warning("%s", self.waiting[0])
                _told.add(flow_run.id)
            return []

        async def _submit_run(self, flow_run: FlowRun) -> None:
            with anyio.CancelScope(shield=True):
                await super()._submit_run(flow_run)

        # Prefect runs this in a separate task, which the shield above does not cover.
        async def _submit_run_and_capture_errors(
            self, flow_run: FlowRun, task_status: TaskStatus[int | Exception] | None = None
        ) -> BaseWorkerResult | Exception:
            result: BaseWorkerResult | Exception
            with anyio.CancelScope(shield=True):
                result = await super()._submit_run_and_capture_errors(flow_run, task_status)
            return result

        # Prefect's method creates the Job.
        async def run(
            self,
            flow_run: FlowRun,
            configuration: ChartJobConfiguration,
            task_status: TaskStatus[str] | None = None,
        ) -> BaseWorkerResult:
            result: BaseWorkerResult = KubernetesWorkerResult(identifier="", status_code=0)
            logger = self.get_flow_run_logger(flow_run)
            if not await submission.is_given_back(self.client, flow_run, self.name, logger):
                result = await super().run(flow_run, configuration, task_status)
            elif task_status is not None:
                task_status.started("")  # there is no Job to record on the run
            return result

        # Only one worker can set a run to Pending; the API rejects the others.
        async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
            logger = self.get_flow_run_logger(flow_run)
            if not await submission.take(self.client, flow_run, self.name, logger):
                return False
            try:
                sentence = await evictions.refusal(self.client, flow_run, self.max_starts)
            except httpx.HTTPError as error:
                logger.warning("Cannot read how often the run was started: %s", error)
                return True
            if sentence is not None:
                await self._propose_crashed_state(flow_run, sentence)
            return sentence is None


def _waiting(pool: str, differing: list[str]) -> str:
    return (
        f"No run of the work pool {pool} is started, because the copy of its base job template on "
        f"the server differs from the chart prefect-worker in {', '.join(differing)}. Next step: "
        "wait until the configuration has corrected it, or run the commands that `helm get notes` "
        "prints (docs/operations/pools.md)."
    )


def explain_refusal(record: logging.LogRecord) -> bool:
    """Replace the traceback in a run's log by the reason, if its Job was refused; keep the line."""
    error = record.exc_info[1] if record.exc_info else None
    refused = isinstance(error, _REFUSALS)
    if isinstance(error, PrefectHTTPStatusError):
        refused = error.response.is_client_error
    if refused:
        record.msg, record.args = " ".join(f"{record.getMessage()} {error}".split()), ()
        record.exc_info = None
    return True


def health_api(
    polls: Callable[[], bool], watches: Watches, waiting: Callable[[], list[str]]
) -> FastAPI:
    """Return the application that answers `GET /health`.

    `polls` returns whether the worker still polls its work pool, and `waiting` what it waits for
    before it starts runs, which a restart would not change.
    """
    app = FastAPI(title="Kubernetes worker", docs_url=None, redoc_url=None, openapi_url=None)
    last: list[str] = []

    @app.get("/health")
    async def health(response: Response) -> dict[str, list[str]]:
        nonlocal last
        stopped = [] if polls() else ["the worker does not poll its work pool"]
        stopped += watches.ended()
        if stopped:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        if stopped != last:
            container.say(f"Not healthy: {'; '.join(stopped)}" if stopped else "Healthy again")
            last = stopped
        return {"stopped": stopped, "waiting": waiting()}

    return app


def main() -> None:
    """Run the worker until it receives a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m prefect_platform.worker.kubernetes_worker",
        epilog="Further arguments are those of `prefect worker start`.",
    )
    parser.add_argument("--max-starts", type=int, required=True, metavar="NUMBER")
    parser.add_argument("--base-job-template", type=Path, required=True, metavar="FILE")
    own, of_prefect = parser.parse_known_args()
    GracefulKubernetesWorker.max_starts = own.max_starts
    ChartJobConfiguration.template = BaseJobTemplate.read(own.base_job_template)
    watches = Watches()
    logging.getLogger("prefect.flow_runs.worker").addFilter(explain_refusal)
    PodRefusals()
    WaitingPods()
    evictions.watch()
    channel_token.send_token()

    def build(is_healthy: Callable[[], bool], log_level: str = "error") -> uvicorn.Server:
        webserver = get_current_settings().worker.webserver
        return uvicorn.Server(
            uvicorn.Config(
                health_api(is_healthy, watches, lambda: GracefulKubernetesWorker.waiting),
                host=webserver.host,
                port=webserver.port,
                access_log=False,
                log_level=log_level,
                loop="asyncio",
            )
        )

    server._build_healthcheck_server = build
    sys.argv = [*_COMMAND, *of_prefect]
    cli.app()


if __name__ == "__main__":
    container.run(main)
