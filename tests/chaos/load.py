"""The runs that a trial asks for, at a steady pace."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient

from tests.chaos.api import call_when_possible
from tests.chaos.history import Wanted
from tests.chaos.target import Target

LIMIT = "chaos"
_AFTERWARDS = 2  # runs that wait for the faults, because only they show a recovery


class Load:
    """Creates runs at a steady pace, every second one with a slot."""

    def __init__(self, target: Target, deployment: UUID, runs: int, pace: timedelta) -> None:
        self.mark = f"chaos-{uuid4().hex[:8]}"
        self.wanted: list[Wanted] = []
        self.disrupted: list[tuple[datetime, datetime]] = []
        """When faults ended pods of runs."""
        self.injected: Future[datetime] = Future()
        """When the injection of the last faults began, which the last runs wait for."""
        self._target, self._deployment = target, deployment
        self._runs, self._pace = runs, pace

    def create_runs(self) -> None:
        """Create each run when it is due, or as soon as that is possible."""
        begun = datetime.now(UTC)
        for number in range(self._runs):
            due = begun + number * self._pace
            if number >= self._runs - _AFTERWARDS:
                due = max(due, self.injected.result())
            time.sleep(max(0, (due - datetime.now(UTC)).total_seconds()))
            limit = None if number % 2 else LIMIT
            self.create_run(Wanted(f"{self.mark}-{number}", due), {"limit": limit})

    def create_run(
        self,
        wanted: Wanted,
        parameters: Mapping[str, object],
        job_variables: Mapping[str, str] | None = None,
    ) -> UUID:
        """Create a run as soon as that is possible, and return its ID."""
        self.wanted.append(wanted)

        def create(prefect: SyncPrefectClient) -> UUID:
            return prefect.create_flow_run_from_deployment(
                self._deployment,
                name=wanted.name,
                parameters=dict(parameters),
                job_variables=dict(job_variables or {}),
                tags=[self.mark],
                idempotency_key=wanted.name,  # a lost answer does not mean that there is no run
            ).id

        return call_when_possible(self._target, create)
