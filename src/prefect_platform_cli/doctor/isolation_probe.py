"""Test the isolation table in a cluster, from pods that stand in for the platform's."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from prefect_platform.polling import wait_while
from prefect_platform_cli.doctor.components import Component, components, places
from prefect_platform_cli.doctor.isolation import Cell, Origin, Place, Target, judge
from prefect_platform_cli.doctor.probe_pods import PORT, ProbePod, ProbePods, probe_pods
from prefect_platform_cli.kube.kubectl import Kubectl

_SETTLED_WITHIN = 30  # seconds; a network may apply policies to a new pod with a delay


def probe(kubectl: Kubectl, world: tuple[str, int]) -> list[Cell]:
    """Return every cell as observed; `world` is an address outside the cluster.

    Raises PlatformError when the platform is not installed.
    """
    api = kubectl.api()
    found = components(api)
    with probe_pods(kubectl, "isolation") as pods:
        stand_ins = [(each, stand_in(pods, each)) for each in found]
        neighbours = [(each, stand_in(pods, each)) for each in found if each.source == Origin.JOB]
        for _, pod in [*stand_ins, *neighbours]:
            pod.wait()
        others = [
            Place(
                Target.JOB,
                each.pool,
                host=pod.address,
                port=PORT,
                missing=pod.problem,
                serves=not pod.problem,
            )
            for each, pod in neighbours
        ]
        return _try_all([*places(api, world), *others], stand_ins)


def stand_in(pods: ProbePods, component: Component) -> ProbePod:
    """Start a probe pod that the cluster treats like a pod of `component`."""
    return pods.start(
        component.namespace,
        component.image,
        component.labels,
        component.pull_secrets,
        component.priority_class,
    )


def _try_all(
    places: Sequence[Place], stand_ins: Sequence[tuple[Component, ProbePod]]
) -> list[Cell]:
    """Try every cell until none is wrong, or until policies have to apply to the new pods."""
    sources = {str(component): component.source for component, _ in stand_ins}
    absent = {str(component): pod.problem for component, pod in stand_ins if pod.problem}
    running = {str(component): pod for component, pod in stand_ins if not pod.problem}
    present = [place for place in places if not place.missing]
    cells: list[Cell] = []

    def attempt(pod: ProbePod) -> Mapping[str, str]:
        outcomes = pod.attempt([(place.host, place.port) for place in present])
        return {str(place): each for place, each in zip(present, outcomes, strict=True)}

    def is_wrong() -> bool:
        with ThreadPoolExecutor() as executor:
            attempts = dict(zip(running, executor.map(attempt, running.values()), strict=True))
        cells[:] = judge(sources, places, attempts, absent)
        return any(cell.wrong for cell in cells)

    wait_while(is_wrong, _SETTLED_WITHIN, every=1)
    return cells
