"""A fault: what a trial does to the platform, and how that is undone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from tests.chaos.parts import Part
from tests.chaos.target import Target


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and what it needs. By itself it does nothing: the figures of the load alone."""

    name: str
    ha: bool = False
    """Whether it needs the server in mode ha."""
    nodes: int | None = None
    """How many nodes the cluster has to have."""
    ends_pods: bool = False
    """Whether it ends pods of runs, which may then crash or start once more."""
    seconds: float = 0
    """How long it lasts before it is healed."""

    @property
    def parts(self) -> frozenset[Part]:
        """Return the parts that it disturbs, and those that have to work for it."""
        return frozenset()

    def inject(self, target: Target) -> None:
        """Inject the fault, and return when it has taken effect."""

    def heal(self, target: Target) -> None:
        """Heal the fault in any state, also twice, and return when the platform is complete."""


@dataclass(frozen=True, kw_only=True)
class FaultOfRun(Fault):
    """A fault of one run, which is created when the fault is injected, and has to crash."""

    reason: str
    """What the message of its Crashed state has to contain."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Parameters of its flow."""
    job_variables: Mapping[str, str] = field(default_factory=dict)

    def inject_into(self, target: Target, run_id: UUID) -> None:
        """Inject the fault into the run, and return when it has taken effect."""
