"""Faults of one run, beside which all others have to complete."""

from dataclasses import dataclass
from uuid import UUID

from tests.chaos.api import await_state
from tests.chaos.fault import FaultOfRun
from tests.chaos.parts import REAPER, Part
from tests.chaos.target import Target
from tests.cluster.cronjobs import run_now

_CRONJOB = REAPER.workload.removeprefix("cronjob/")


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
        """Let the reaper end the run now, instead of after half an hour."""
        run_now(target.kubectl, REAPER.namespace, _CRONJOB, "--grace=5", "--unstartable=0")
