"""Mode ha: pods share state through Redis, and together fit the database's connection limit."""

import pytest

from tests.support.rendering import STORIES, Object, find, objects

# The modules of prefect-redis that replace the in-memory state of a server.
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
    """Return the value or the source of each variable of a component's container."""
    rendered = objects(STORIES[story].with_values(values or {}))
    pod = find(rendered, "Deployment", component)["spec"]["template"]["spec"]
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom"))
        for variable in pod["containers"][0]["env"]
    }


@pytest.mark.parametrize("component", ["api", "services"])
@pytest.mark.parametrize("story", HA)
def test_processes_share_all_state_through_redis(story: str, component: str) -> None:
    found = environment(story, component)

    assert SHARED.items() <= found.items()
    for name in URLS:
        assert "max_connections=5000" in found[name]  # the client's default of 100 loses events


@pytest.mark.parametrize("story", HA)
def test_only_the_api_has_settings_of_the_user_interface_and_of_run_identity(story: str) -> None:
    api, services = environment(story, "api"), environment(story, "services")

    assert services.items() <= api.items()
    assert all(
        name.startswith(("PREFECT_SERVER_UI_", "RUN_IDENTITY_"))
        for name in set(api) - set(services)
    )


def test_the_password_of_embedded_redis_comes_from_a_secret_and_is_not_an_argument() -> None:
    redis = find(objects(STORIES["server-ha"]), "StatefulSet", "redis")
    container = redis["spec"]["template"]["spec"]["containers"][0]

    assert container["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "prefect-redis"
    assert "requirepass" not in " ".join(container["args"])
    assert environment("server-ha", "api")["REDIS_PASSWORD"]["secretKeyRef"] == {
        "name": "prefect-redis",
        "key": "password",
    }


def test_api_pods_run_no_background_services_in_mode_ha() -> None:
    def arguments(story: str) -> list[str]:
        api = find(objects(STORIES[story]), "Deployment", "api")["spec"]["template"]["spec"]
        found: list[str] = api["containers"][0].get("args", [])
        return found

    assert arguments("server-ha") == ["--no-services"]
    assert arguments("server") == []


def test_a_deployment_with_an_autoscaler_sets_no_replicas() -> None:
    rendered = objects(STORIES["server-production"])
    scaler = find(rendered, "HorizontalPodAutoscaler", "api")["spec"]
    deployment = find(rendered, "Deployment", "api")

    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "pool"),
    [
        # (100 - 10) / (API pods + services pods + one surge pod each), at most Prefect's 5 + 10.
        ({}, 15),
        ({"api.replicas": 5, "backgroundServices.replicas": 3}, 9),
        ({"api.replicas": 12, "backgroundServices.replicas": 4}, 5),
        ({"api.autoscaling.enabled": True, "api.autoscaling.maxReplicas": 10}, 6),
    ],
)
def test_all_connection_pools_together_fit_the_limit_of_the_database(
    values: dict[str, object], pool: int
) -> None:
    for component in ("api", "services"):
        found = environment("server-ha", component, values)
        size = int(found["PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"])
        overflow = int(found["PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW"])
        assert size + overflow == pool
        assert size > 0


def test_the_chart_stores_no_data_in_production() -> None:
    assert not [
        item for item in objects(STORIES["server-production"]) if item["kind"] == "StatefulSet"
    ]
