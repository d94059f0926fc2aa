"""Mode ha: what several pods share they share through Redis, and no rollout takes the last away."""

import pytest

from tests.support.rendering import STORIES, Object, find, objects

# prefect-redis' modules for what a server otherwise keeps in its memory.
SHARED = {
    "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
    "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
    "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
}
URLS = (
    "PREFECT_SERVER_DOCKET_URL",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL",
)
HA = ["server-ha", "server-ha-external", "server-staging", "server-production"]


def environment(story: str, component: str, values: dict[str, object] | None = None) -> Object:
    """Return what each variable of a component's container holds."""
    rendered = objects(STORIES[story].with_values(values or {}))
    pod = find(rendered, "Deployment", component)["spec"]["template"]["spec"]
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom"))
        for variable in pod["containers"][0]["env"]
    }


@pytest.mark.parametrize("component", ["api", "services"])
@pytest.mark.parametrize("story", HA)
def test_everything_that_processes_share_goes_through_redis(story: str, component: str) -> None:
    found = environment(story, component)

    assert SHARED.items() <= found.items()
    for name in URLS:
        assert "max_connections=5000" in found[name]  # the client's 100 lose events


@pytest.mark.parametrize("story", HA)
def test_api_and_services_differ_in_what_the_browser_needs_alone(story: str) -> None:
    api, services = environment(story, "api"), environment(story, "services")

    assert services.items() <= api.items()
    assert all(name.startswith("PREFECT_SERVER_UI_") for name in set(api) - set(services))


def test_the_embedded_password_is_a_reference_and_no_argument() -> None:
    redis = find(objects(STORIES["server-ha"]), "StatefulSet", "redis")
    container = redis["spec"]["template"]["spec"]["containers"][0]

    assert container["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "prefect-redis"
    assert "requirepass" not in " ".join(container["args"])
    assert environment("server-ha", "api")["REDIS_PASSWORD"]["secretKeyRef"] == {
        "name": "prefect-redis",
        "key": "password",
    }


def test_the_api_leaves_the_services_to_their_own_pods() -> None:
    def arguments(story: str) -> list[str]:
        api = find(objects(STORIES[story]), "Deployment", "api")["spec"]["template"]["spec"]
        found: list[str] = api["containers"][0].get("args", [])
        return found

    assert arguments("server-ha") == ["--no-services"]
    assert arguments("server") == []


def test_an_autoscaler_has_the_number_of_pods_to_itself() -> None:
    rendered = objects(STORIES["server-production"])
    scaler = find(rendered, "HorizontalPodAutoscaler", "api")["spec"]
    deployment = find(rendered, "Deployment", "api")

    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "pool"),
    [
        # (100 - 10) / (api + services + one of each in a rollout), at most Prefect's own 5 + 10.
        ({}, 15),
        ({"api.replicas": 5, "backgroundServices.replicas": 3}, 9),
        ({"api.replicas": 12, "backgroundServices.replicas": 4}, 5),
        ({"api.autoscaling.enabled": True, "api.autoscaling.maxReplicas": 10}, 6),
    ],
)
def test_all_pools_together_stay_below_the_connections_of_the_database(
    values: dict[str, object], pool: int
) -> None:
    for component in ("api", "services"):
        found = environment("server-ha", component, values)
        size = int(found["PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"])
        overflow = int(found["PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW"])
        assert size + overflow == pool
        assert size > 0


def test_production_keeps_no_data_in_the_chart() -> None:
    assert not [
        item for item in objects(STORIES["server-production"]) if item["kind"] == "StatefulSet"
    ]
