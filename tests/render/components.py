"""All components with pods, and what the tests expect of them: add a new component here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from tests.render.job_pods import created_job
from tests.support.rendering import STORIES, Object, Story, all_objects, find, objects, pod_of

LABEL = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Chart:
    """The chart of a component, and the keys in its values that configure the component."""

    name: str
    pod: str  # contains the metadata and scheduling settings of the pods
    image: str = "image"


@dataclass(frozen=True)
class Component:
    """What the tests expect of the pods with the label app.kubernetes.io/component=`name`.

    In mode ha, a component with `several` pods has a PodDisruptionBudget, is spread over nodes and
    zones, and is rolled out without downtime. A CronJob also runs the Job of a `repeated`
    component. A component without a chart comes from a folder of manifests.
    """

    name: str
    kind: Literal["Deployment", "StatefulSet", "Job", "CronJob", "Pod"]
    uid: int
    chart: Chart | None = None
    token: bool = False
    keeps_data: bool = False
    several: bool = False
    repeated: bool = False


def _server(pod: str, image: str = "image") -> Chart:
    return Chart("prefect-server", pod, image)


def _worker(pod: str, image: str = "image") -> Chart:
    return Chart("prefect-worker", pod, image)


COMPONENTS = [
    Component("api", "Deployment", 1000, _server("api"), several=True),
    Component("services", "Deployment", 1000, _server("backgroundServices"), several=True),
    Component("migrations", "Job", 1000, _server("migrations")),
    Component("retention", "CronJob", 1000, _server("retentionSweep")),
    Component(
        "database",
        "StatefulSet",
        999,
        _server("database.embedded", "database.embedded.image"),
        keeps_data=True,
    ),
    Component(
        "redis",
        "StatefulSet",
        999,
        _server("redis.embedded", "redis.embedded.image"),
        keeps_data=True,
    ),
    Component("worker", "Deployment", 1000, _worker("worker"), token=True),
    Component("reaper", "CronJob", 1000, _worker("reaper"), token=True),
    Component("flow-run", "Job", 1000, _worker("jobs", "jobs.image")),
    Component("release-test", "Pod", 1000, _worker("worker")),
    Component("configuration", "Job", 1000, _worker("configuration", "jobs.image"), repeated=True),
    Component("object-store", "StatefulSet", 1000, keeps_data=True),
    Component("warehouse", "StatefulSet", 999, keeps_data=True),
    Component("result-locks", "Deployment", 999),
    Component("publish-flights", "Job", 1000),
]


def pods_of(owner: Object) -> Object:
    """Return `owner` if it is a pod, or else its pod template."""
    pod = pod_of(owner)
    assert pod is not None
    return pod


def pod_owners(story: Story) -> list[Object]:
    """Return the pods of a story and the objects that create pods, with one Job per work pool."""
    owners = [item for item in objects(story) if pod_of(item)]
    if story.chart == "prefect-worker":
        templates = find(objects(story), "ConfigMap", "work-pool")["data"]
        pools = [name.removesuffix(".json") for name in templates if name.endswith(".json")]
        owners += [created_job(story, pool) for pool in pools]
    return owners


@cache
def owners_by_component() -> Mapping[str, Mapping[str, list[Object]]]:
    """Return all pods and objects that create pods, by component and story."""
    found: dict[str, dict[str, list[Object]]] = {}
    for name, items in all_objects().items():
        owners = (
            pod_owners(STORIES[name])
            if name in STORIES
            else [item for item in items if pod_of(item)]
        )
        for owner in owners:
            component = pods_of(owner)["metadata"]["labels"][LABEL]
            found.setdefault(component, {}).setdefault(name, []).append(owner)
    return found


def story_to_vary(component: Component) -> Story:
    """Return a story that renders the component without the values files of an environment."""
    return next(
        STORIES[name]
        for name in owners_by_component()[component.name]
        if name in STORIES and not STORIES[name].files
    )


def varied_owners(component: Component, values: Mapping[str, object]) -> list[Object]:
    """Return the objects that create the component's pods when `values` are set."""
    return [
        owner
        for owner in pod_owners(story_to_vary(component).with_values(values))
        if pods_of(owner)["metadata"]["labels"][LABEL] == component.name
    ]
