"""What a pass over a work pool found and did, for the log and as a Prefect event."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.events import Event, RelatedResource, Resource

from prefect_platform import container

EVENT = "prefect-platform.reaper.pass"
SILENT_EVENT = "prefect-platform.reaper.silent-run"
_NAMED = 1000  # objects listed in an event, because the API limits its size; all are counted


@dataclass
class PassReport:
    """A pass over the work pool `pool`; with `dry_run` nothing is changed.

    The pass over the concurrency limits has such a report, too, but no pool to send it to.
    """

    pool: str
    dry_run: bool
    runs: int = 0
    jobs: int = 0
    entries: list[dict[str, str]] = field(default_factory=list)
    silent: list[Event] = field(default_factory=list)

    def did(self, reason: str, kind: str, name: str, sentence: str) -> None:
        """Record and log what was done to the object `name`, or would be done without dry run."""
        self.saw(reason, kind, name, f"would have {sentence}" if self.dry_run else sentence)

    def saw(self, reason: str, kind: str, name: str, sentence: str) -> None:
        """Record and log something about the object `name`."""
        self.entries.append({"reason": reason, kind: name})
        container.say(f"{self.pool}: {sentence}")

    def name_silent(self, run: FlowRun, period: str) -> None:
        """Record and log a run that has sent no heartbeat for a period, with an event about it."""
        sentence = (
            f"has sent no heartbeat for {period}, but nothing says that its container has ended; "
            "it is left alone"
        )
        name = f"the run {run.name} ({run.id})"
        self.saw("run_silent", "flow_run", str(run.id), f"{name} is Running, and {sentence}")
        related = {"flow": run.flow_id, "deployment": run.deployment_id}
        self.silent.append(
            Event(
                event=SILENT_EVENT,
                resource=Resource(
                    {
                        "prefect.resource.id": f"prefect.flow-run.{run.id}",
                        "prefect.resource.name": run.name,
                    }
                ),
                related=[
                    RelatedResource(
                        {
                            "prefect.resource.id": f"prefect.{role}.{each}",
                            "prefect.resource.role": role,
                        }
                    )
                    for role, each in related.items()
                    if each
                ],
                payload={"reason": sentence},
            )
        )

    def counts(self) -> dict[str, int]:
        """Return the number of objects per reason."""
        return dict(sorted(Counter(each["reason"] for each in self.entries).items()))

    def summary(self) -> dict[str, Any]:
        """Return the part of the log's last line that is about this pool."""
        return {"runs": self.runs, "jobs": self.jobs, "counts": self.counts()}

    async def send(self, client: PrefectClient, work_pool: WorkPool) -> None:
        """Send the report to the API as an event of the work pool, if there is anything in it.

        Silent runs have events of their own, too. A dry run sends nothing.
        """
        if not self.entries or self.dry_run:
            return
        event = Event(
            event=EVENT,
            resource=Resource(
                {
                    "prefect.resource.id": f"prefect.work-pool.{work_pool.id}",
                    "prefect.resource.name": work_pool.name,
                    "prefect.resource.role": "work-pool",
                }
            ),
            payload={"counts": self.counts(), "objects": self.entries[:_NAMED]},
        )
        await client.request(
            "POST",
            "/events",
            json=[each.model_dump(mode="json") for each in (event, *self.silent)],
        )


def say_summary(
    reports: list[PassReport], slots: PassReport, failed: list[str], seconds: float
) -> None:
    """Log what a pass over all pools and concurrency limits did, as one line of JSON."""
    container.say(
        json.dumps(
            {
                "event": EVENT,
                "dry_run": reports[0].dry_run,
                "seconds": round(seconds, 1),
                "pools": {report.pool: report.summary() for report in reports},
                "concurrency_limits": slots.counts(),
                "failed": failed,
            }
        )
    )
