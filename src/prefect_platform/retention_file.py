"""How long everything is kept: one file an environment, for both charts and the configuration."""

import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import StringConstraints, model_validator

from prefect_platform.values import NonEmpty, Values

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_PERIOD = re.compile(r"[1-9][0-9]*[mhd]")

Period = Annotated[str, StringConstraints(pattern=f"^{_PERIOD.pattern}$")]
# What object stores count in.
Days = Annotated[str, StringConstraints(pattern="^[1-9][0-9]*d$")]


def seconds(period: str) -> int:
    """Return the length of a period such as 90d, 24h or 30m; ValueError when it is none."""
    if not _PERIOD.fullmatch(period):
        raise ValueError(f"{period!r} is no period such as 90d, 24h or 30m")
    return int(period[:-1]) * _SECONDS[period[-1]]


class Events(Values):
    default: Period = "90d"
    """Every event of a type that byType does not name, since it occurred."""
    by_type: dict[NonEmpty, Period] = {"prefect.flow-run.heartbeat": "7d"}
    """Events of single types, such as prefect.flow-run.heartbeat; none longer than default."""


class FinishedJobs(Values):
    succeeded: Period = "1h"
    """A Job whose flow run's pod succeeded."""
    failed: Period = "24h"
    """Any other finished Job, with its pod and its log. It is the Job's TTL; a deployment can
    override it by finished_job_ttl."""


class Objects(Values):
    results: Days = "97d"
    """Persisted results and cached values, since they were written: a week more than flow runs,
    which count from their end. A lifecycle rule of the bucket, which Terraform makes."""


class Retention(Values):
    flow_runs: Period = "90d"
    """A run that ended, since its end, with its task runs, states and inputs; and a task run that
    ended and belongs to no flow run, or to one that has not ended."""
    unfinished_runs: Period = "90d"
    """A run that never ended, since its last change of state, event or log line. Longer than any
    run may take."""
    events: Events = Events()
    """What happened: the feed of the user interface, and what automations look back on."""
    logs: Period = "90d"
    """A line of a run's log, since it was written; it goes with its run at the latest."""
    artifacts: Period = "90d"
    """An artifact in Prefect, since its last change; it goes with its run at the latest."""
    jobs: FinishedJobs = FinishedJobs()
    """Finished Jobs of flow runs in Kubernetes, since they finished."""
    objects: Objects = Objects()
    """Objects in the buckets, in whole days."""
    backups: Days = "30d"
    """A backup of the database, in whole days. A lifecycle rule of the bucket, which Terraform
    makes; the charts do not look at it."""

    @model_validator(mode="after")
    def _refuse_harm(self) -> Self:
        """Refuse periods that contradict each other, in the sentences of the charts' guards."""
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
                    f"retention.{key} is {period}, but what is an hour old may still be in use: "
                    "set more than 1h"
                )
        for key, period in events.items():
            if seconds(period) > seconds(self.events.default):
                yield (
                    f"retention.{key} is {period}, but every event goes after "
                    f"{self.events.default}: raise retention.events.default"
                )
        for key, period in {"logs": self.logs, "artifacts": self.artifacts}.items():
            if seconds(period) > seconds(self.flow_runs):
                yield (
                    f"retention.{key} is {period}, but they go with their flow run after "
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
                    f"their states would name results that are gone; set at least retention.{key}"
                )
        if seconds(self.jobs.succeeded) > seconds(self.jobs.failed):
            yield (
                f"retention.jobs.succeeded is {self.jobs.succeeded}, but every finished Job goes "
                f"after {self.jobs.failed}: raise retention.jobs.failed"
            )


class RetentionFile(Values):
    """How long everything is kept in an environment."""

    retention: Retention = Retention()
    """Periods such as 90d, 24h or 30m. The same file is given to both charts."""
