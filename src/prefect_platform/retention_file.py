"""The retention periods of an environment, which both charts and the configuration read."""

import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import StringConstraints, model_validator

from prefect_platform.values import NonEmpty, Values

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_PERIOD = re.compile(r"[1-9][0-9]*[mhd]")

Period = Annotated[str, StringConstraints(pattern=f"^{_PERIOD.pattern}$")]
# Lifecycle rules of object stores count in whole days.
Days = Annotated[str, StringConstraints(pattern="^[1-9][0-9]*d$")]


def seconds(period: str) -> int:
    """Return the length of a period such as 90d, 24h or 30m; raise ValueError otherwise."""
    if not _PERIOD.fullmatch(period):
        raise ValueError(f"{period!r} is not a period such as 90d, 24h or 30m")
    return int(period[:-1]) * _SECONDS[period[-1]]


class Events(Values):
    default: Period = "90d"
    """How long an event is kept if `byType` does not name its type, counted from the time that it
    occurred."""
    by_type: dict[NonEmpty, Period] = {"prefect.flow-run.heartbeat": "7d"}
    """How long events of single types are kept, by event type, such as prefect.flow-run.heartbeat.
    No period may be longer than `default`."""


class FinishedJobs(Values):
    succeeded: Period = "1h"
    """How long a Job whose pod succeeded is kept. The reaper of prefect-worker deletes it. It may
    not be longer than `failed`."""
    failed: Period = "24h"
    """How long any other finished Job is kept, together with its pod and its log. It becomes the
    TTL of the Job; a deployment can override it through the job variable `finished_job_ttl`."""


class Objects(Values):
    results: Days = "97d"
    """How long results and cached values are kept, counted from the time that they were written.
    The default is a week longer than `flowRuns`, which counts from the end of the run. Terraform
    sets the period as a lifecycle rule of the bucket."""


class Retention(Values):
    flow_runs: Period = "90d"
    """How long a finished flow run is kept, counted from its end. Its task runs, states and inputs
    are deleted with it. The period also applies to a finished task run without a flow run, and to
    one whose flow run has not finished."""
    unfinished_runs: Period = "90d"
    """How long a run that never finished is kept, counted from its last change of state, event or
    log line. It has to be longer than any run may take."""
    events: Events = Events()
    """How long events are kept. The user interface shows them in its feed, and automations look
    back on them."""
    logs: Period = "90d"
    """How long a log line of a run is kept, counted from the time that it was written. It is
    deleted with its run at the latest, so the period may not be longer than `flowRuns`."""
    artifacts: Period = "90d"
    """How long an artifact in Prefect is kept, counted from its last change. It is deleted with its
    run at the latest, so the period may not be longer than `flowRuns`."""
    jobs: FinishedJobs = FinishedJobs()
    """How long the finished Jobs of flow runs are kept in Kubernetes, counted from their end."""
    objects: Objects = Objects()
    """How long objects in the buckets are kept, in whole days."""
    backups: Days = "30d"
    """How long a backup of the database is kept, in whole days. Terraform sets the period as a
    lifecycle rule of the bucket; the charts do not use it."""

    @model_validator(mode="after")
    def _refuse_harm(self) -> Self:
        """Refuse periods that contradict each other, in the words of the charts."""
        for refusal in self._contradictions():
            raise ValueError(refusal)
        return self

    def _contradictions(self) -> Iterator[str]:
        events = {f"events.byType.{name}": each for name, each in self.events.by_type.items()}
        for key, period in {
            "flowRuns": self.flow_runs,
            "unfinishedRuns": self.unfinished_runs,
            "events.default": self.events.default,
            **events,
            "logs": self.logs,
            "artifacts": self.artifacts,
        }.items():
            if seconds(period) <= _SECONDS["h"]:
                yield (
                    f"retention.{key} is {period}, but data that is an hour old may still be in "
                    "use: set more than 1h"
                )
        for key, period in events.items():
            if seconds(period) > seconds(self.events.default):
                yield (
                    f"retention.{key} is {period}, but every event is deleted after "
                    f"{self.events.default}: raise retention.events.default"
                )
        for key, period in {"logs": self.logs, "artifacts": self.artifacts}.items():
            if seconds(period) > seconds(self.flow_runs):
                yield (
                    f"retention.{key} is {period}, but they are deleted with their flow run after "
                    f"{self.flow_runs}: set at most that, or raise retention.flowRuns"
                )
        results = self.objects.results
        for key, period in {
            "flowRuns": self.flow_runs,
            "unfinishedRuns": self.unfinished_runs,
        }.items():
            if seconds(results) < seconds(period):
                yield (
                    f"retention.objects.results is {results}, but runs are kept for {period}: "
                    f"their states would refer to deleted results; set at least retention.{key}"
                )
        if seconds(self.jobs.succeeded) > seconds(self.jobs.failed):
            yield (
                f"retention.jobs.succeeded is {self.jobs.succeeded}, but every finished Job is "
                f"deleted after {self.jobs.failed}: raise retention.jobs.failed"
            )


class RetentionFile(Values):
    """How long everything is kept in an environment."""

    retention: Retention = Retention()
    """Retention periods. Each is a whole number with a unit: m (minutes), h (hours) or d (days),
    such as 90d. Give this file to both charts."""
