"""The faults by name, and which of them can be injected together."""

from collections.abc import Iterable
from itertools import combinations

from prefect_platform.errors import PlatformError
from tests.chaos.changes import MigrationKilled, SecretsRotated, TwoApplies
from tests.chaos.fault import Fault
from tests.chaos.full import RedisFull
from tests.chaos.nodes import NodeFrozen, NodeKilled
from tests.chaos.outages import Away, ConnectionsExhausted, Killed
from tests.chaos.parts import API, DATABASE, OBJECT_STORE, REDIS, SERVICES, WORKER
from tests.chaos.run_faults import Crashing, ImageMissing, ReaperKilled
from tests.chaos.target import Target

# Never pulled, so that the reason does not depend on a registry that may be away.
_MISSING = {"image": "prefect-platform.local/flows:missing", "image_pull_policy": "Never"}
_NONE = Fault(name="none")
FAULTS = {
    fault.name: fault
    for fault in (
        _NONE,
        Killed(name="api-killed", part=API),
        Killed(name="services-killed", part=SERVICES, ha=True),
        Killed(name="worker-killed", part=WORKER),
        Killed(name="database-killed", part=DATABASE),
        Killed(name="redis-killed", part=REDIS, ha=True),
        Away(name="api-away", part=API, seconds=30),
        Away(name="api-away-long", part=API, seconds=360),
        ConnectionsExhausted(name="connections-exhausted"),
        Away(name="object-store-away", part=OBJECT_STORE, seconds=30),
        RedisFull(name="redis-out-of-memory", part=REDIS, ha=True, seconds=30),
        SecretsRotated(name="secrets-rotated"),
        MigrationKilled(name="migration-killed"),
        TwoApplies(name="two-applies"),
        NodeKilled(name="node-killed", seconds=75),
        NodeFrozen(name="node-frozen", seconds=30),
        ImageMissing(
            name="image-missing",
            reason="ImageMissing",
            job_variables=_MISSING,
        ),
        ReaperKilled(
            name="reaper-killed",
            reason="ImageMissing",
            job_variables=_MISSING,
        ),
        Crashing(
            name="pod-over-memory",
            reason="exceeding memory limits",
            parameters={"megabytes": 1000},
            job_variables={"memory_limit": "400Mi"},
        ),
    )
}


def chosen(names: str) -> tuple[Fault, ...]:
    """Return the faults of names that are joined by `+`.

    Raises PlatformError for an unknown name, and for faults that contradict each other.
    """
    every = names.split("+")
    for name in every:
        if name not in FAULTS:
            raise PlatformError(
                f"{name} is not a fault", next_step=f"choose from {', '.join(FAULTS)}"
            )
    faults = tuple(FAULTS[name] for name in every)
    for one, other in combinations(faults, 2):
        if why := _contradiction(one, other):
            raise PlatformError(
                f"{one.name} and {other.name} cannot be injected together: {why}",
                next_step="run a trial of each",
            )
    return faults


def require(target: Target, faults: Iterable[Fault]) -> None:
    """Raise PlatformError if the cluster lacks what one of the faults needs."""
    for fault in faults:
        if fault.ha and not target.is_ha():
            raise PlatformError(
                f"{fault.name} needs the server in mode ha, and it is in mode single",
                next_step="switch the mode as in helm/prefect-server/README.md",
            )
        if fault.nodes and fault.nodes != (count := len(target.nodes())):
            raise PlatformError(
                f"{fault.name} needs a cluster with {fault.nodes} nodes, and {target.cluster} has "
                f"{count}",
                next_step=f"make deploy-cluster NODES={fault.nodes} CLUSTER_NAME=NAME, with a name "
                "that no cluster has",
            )


def possible(target: Target) -> tuple[Fault, ...]:
    """Return the faults that the cluster has all parts for."""
    is_ha, nodes = target.is_ha(), len(target.nodes())
    return tuple(
        each
        for each in FAULTS.values()
        if each is not _NONE and (is_ha or not each.ha) and each.nodes in (None, nodes)
    )


def _contradiction(one: Fault, other: Fault) -> str | None:
    """Return why two faults cannot be injected at the same time."""
    if _NONE in (one, other):
        return "none means that there is no fault"
    if shared := sorted(part.workload for part in one.parts & other.parts):
        return f"both need {', '.join(shared)}"
    return None
