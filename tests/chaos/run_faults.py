"""Faults of one run, beside which all others have to complete."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from tests.chaos.api import await_state
from tests.chaos.fault import FaultOfRun
from tests.chaos.parts import REAPER, Part
from tests.chaos.target import Target
from tests.cluster.cronjobs import SHORT_GRACE_PERIOD, run_now, started_now

# The reaper ends a run that cannot start at once, instead of after half an hour.
_NOW = "--unstartable=0"
# Waits until it is killed, between the end of the run and the deletion of its Job.
_REAPER_THAT_STOPS = """
import asyncio
from prefect_platform import container
from prefect_platform.reaper import reaper

end = reaper.Reaper._end

async def end_and_stop(*arguments):
    if await end(*arguments):
        await asyncio.sleep(600)

reaper.Reaper._end = end_and_stop
container.run(reaper.main)
"""


@dataclass(frozen=True, kw_only=True)
class Crashing(FaultOfRun):
    """A run that crashes by itself, because of its parameters or its job variables."""

    def inject_into(self, target: Target, run_id: UUID) -> None:
        """Wait until the run has crashed."""
        await_state(target, run_id, "Crashed")


@dataclass(frozen=True, kw_only=True)
class ImageMissing(FaultOfRun):
    """A run whose image does not exist."""

    @property
    def parts(self) -> frozenset[Part]:
        """Return the reaper, which ends such a run."""
        return frozenset({REAPER})

    def inject_into(self, target: Target, run_id: UUID) -> None:
        """Wait until the worker has found the reason."""
        await_state(target, run_id, "ImageMissing")

    def heal(self, target: Target) -> None:
        """Let the reaper end the run."""
        run_now(target.kubectl, REAPER.namespace, REAPER.name, SHORT_GRACE_PERIOD, _NOW)


@dataclass(frozen=True, kw_only=True)
class ReaperKilled(ImageMissing):
    """As `ImageMissing`, but the reaper is killed between ending the run and deleting its Job."""

    def inject_into(self, target: Target, run_id: UUID) -> None:
        """Kill the reaper when the run has ended."""
        super().inject_into(target, run_id)
        name = f"chaos-reaper-{uuid4().hex[:6]}"
        reaper = (target.kubectl, REAPER.namespace, REAPER.name, SHORT_GRACE_PERIOD, _NOW)
        with started_now(*reaper, name=name, code=_REAPER_THAT_STOPS):
            await_state(target, run_id, "Crashed")
            (pod,) = target.running(REAPER.namespace, f"job-name={name}")
            target.kill(pod)

    def heal(self, target: Target) -> None:
        """Let the reaper delete the Job, two seconds after the end of the run."""
        run_now(target.kubectl, REAPER.namespace, REAPER.name, "--grace=2", _NOW)
