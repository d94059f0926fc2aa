"""The table of allowed network traffic, and its comparison with what pods can reach."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prefect_platform.errors import PlatformError

REACHED = "reached"  # the outcome of a successful attempt; that of a failed one is the error

_PORTS = 65536


class Origin(StrEnum):
    """The pod that connects."""

    JOB = "job pod"
    WORKER = "worker"
    API = "API"
    SERVICES = "services"
    STRANGER = "stranger"


class Target(StrEnum):
    """What the pod connects to."""

    API = "API"
    DATABASE = "PostgreSQL"
    REDIS = "Redis"
    OBJECT_STORE = "object store"
    WAREHOUSE = "warehouse"
    LOCKS = "result locks"
    KUBERNETES = "Kubernetes API"
    METADATA = "cloud metadata"
    DNS = "DNS"
    JOB = "job pod"
    WORLD = "world"


# Everything not listed is denied. Target.JOB is any other job pod, of the same pool or another.
# The webhooks of notifications are in Target.WORLD, at port 443. None of the platform's policies
# applies to a stranger: it proves that a target which no other pod may reach is alive.
ALLOWED: Mapping[Origin, frozenset[Target]] = {
    Origin.JOB: frozenset(
        {Target.API, Target.OBJECT_STORE, Target.WAREHOUSE, Target.LOCKS, Target.DNS}
    ),
    Origin.WORKER: frozenset({Target.API, Target.KUBERNETES, Target.DNS}),
    # The API asks Kubernetes about the tokens of pods.
    Origin.API: frozenset(
        {Target.DATABASE, Target.REDIS, Target.KUBERNETES, Target.DNS, Target.WORLD}
    ),
    Origin.SERVICES: frozenset({Target.DATABASE, Target.REDIS, Target.DNS, Target.WORLD}),
    Origin.STRANGER: frozenset({Target.KUBERNETES, Target.METADATA, Target.DNS, Target.WORLD}),
}
# Targets that may be absent: it is not a fault of the platform if no pod can reach them.
_ELSEWHERE = frozenset({Target.METADATA, Target.WORLD})


@dataclass(frozen=True)
class Place:
    """Where a target is: `host` and TCP `port`; port 0 only resolves the name.

    `missing` says why there is nothing to try. `pool` is the work pool of a job pod, and `serves`
    says whether the kubelet reached it, which no policy prevents. An `external` target is outside
    the cluster and protects itself.
    """

    target: Target
    pool: str = ""
    host: str = ""
    port: int = 0
    missing: str = ""
    serves: bool = False
    external: bool = False

    def __str__(self) -> str:
        return f"{self.target} of {self.pool}" if self.pool else self.target


@dataclass(frozen=True)
class Cell:
    """One source and one target: what is declared, and what was observed.

    `unproven` says why nothing was observed; `reached` then has no meaning.
    """

    source: str
    place: Place
    allowed: bool
    reached: bool = False
    unproven: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the observation differs from the declaration."""
        return not self.unproven and self.reached != self.allowed

    def __str__(self) -> str:
        """Return what is wrong, and which setting to look at."""
        where = f"{self.place} ({self.place.host}:{self.place.port})"
        if self.allowed:
            return f"{self.source} cannot reach {where}, which it needs: {_needed_in(self)}"
        return f"{self.source} reaches {where}, which is denied: {_denied_in(self)}"


def allowed(source: Origin, target: Target) -> bool:
    """Return whether the table lets `source` reach `target`."""
    return target in ALLOWED[source]


def judge(
    sources: Mapping[str, Origin],
    places: Collection[Place],
    attempts: Mapping[str, Mapping[str, str]],
    absent: Mapping[str, str],
) -> list[Cell]:
    """Return every cell of the table, row by row.

    `attempts` has the outcome of each attempt by source and place, and `absent` why a source made
    none. A denial counts only if some source reaches the target: no pod reaches a dead one.
    """
    alive = {str(place): place.serves for place in places}
    for tried in attempts.values():
        alive |= {place: True for place, outcome in tried.items() if outcome == REACHED}
    cells = []
    for title, source in sources.items():
        for place in places:
            is_allowed = allowed(source, place.target)
            outcome = attempts.get(title, {}).get(str(place), "")
            if title in absent:
                unproven = absent[title]
            elif place.missing:
                unproven = place.missing
            elif place.external and source == Origin.STRANGER:
                unproven = "it is outside the cluster and protects itself"
            elif alive[str(place)] or (is_allowed and place.target not in _ELSEWHERE):
                unproven = ""
            else:
                unproven = f"no pod reaches {place.host}:{place.port}, so a denial proves nothing"
            cells.append(Cell(title, place, is_allowed, outcome == REACHED, unproven))
    return cells


def refuse_wrong(cells: Collection[Cell]) -> None:
    """Raise PlatformError with one sentence for each cell that differs from its declaration."""
    if wrong := [str(cell) for cell in cells if cell.wrong]:
        raise PlatformError(
            "the parts of the platform are not isolated as declared:\n" + "\n".join(wrong),
            next_step="docs/operations/isolation.md lists the usual cause of each difference",
        )


def parse_address(written: str) -> tuple[str, int]:
    """Return the host and port of HOST:PORT; raises PlatformError for anything else."""
    host, _, port = written.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < _PORTS:
        raise PlatformError(
            f"{written} is not an address and a port, such as 1.1.1.1:443",
            next_step="prefect-platform doctor isolation --world 1.1.1.1:443",
        )
    return host, int(port)


def _needed_in(cell: Cell) -> str:
    """Return where to allow a declared connection that fails."""
    if cell.place.target in {Target.OBJECT_STORE, Target.WAREHOUSE, Target.LOCKS}:
        return "if it is running, allow it in networkPolicies.jobsEgress of prefect-worker"
    if cell.place.target == Target.API:
        return "add the source's namespace to networkPolicies.apiClients of prefect-server"
    return "look for a NetworkPolicy in its namespace that is not part of the platform"


def _denied_in(cell: Cell) -> str:
    """Return where to look for what allows a denied connection."""
    if cell.source.startswith(Origin.WORKER) and cell.place.target == Target.WORLD:
        return "set networkPolicies.kubernetesApi.to of prefect-worker to the address of the API"
    return "a NetworkPolicy is missing, another one allows it, or the network enforces none"
