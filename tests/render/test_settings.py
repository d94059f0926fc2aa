"""Every setting that we render exists in the pinned Prefect and its integrations."""

from collections.abc import Iterator

import prefect_redis.cleanup_queue  # type: ignore[import-untyped]
import prefect_redis.client  # type: ignore[import-untyped]
import prefect_redis.messaging  # type: ignore[import-untyped]
import pytest
from prefect.settings.base import PrefectBaseSettings
from prefect.settings.models.root import Settings
from prefect_kubernetes.settings import KubernetesSettings  # type: ignore[import-untyped]
from pydantic import AliasChoices

from tests.support.rendering import STORIES, all_objects, containers, find, objects, pod_of

# Variables that are read without a settings model, with the modules that read them.
READ_BY_GETENV = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "prefect/logging/configuration.py",
    "PREFECT_SERVER_ENCRYPTION_KEY": "prefect/server/utilities/encryption.py",
}
_REDIS_MODELS = [
    model
    for module in (prefect_redis.client, prefect_redis.cleanup_queue, prefect_redis.messaging)
    for model in vars(module).values()
    if isinstance(model, type)
    and issubclass(model, PrefectBaseSettings)
    and model is not PrefectBaseSettings
]


def variables_of(model: type[PrefectBaseSettings]) -> Iterator[str]:
    """Yield the names of all environment variables that a settings model reads."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, PrefectBaseSettings):
            yield from variables_of(annotation)
        elif isinstance(field.validation_alias, AliasChoices):
            for alias in field.validation_alias.choices:
                if isinstance(alias, str):
                    yield alias.upper()
        else:
            yield f"{model.model_config['env_prefix']}{name}".upper()


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return all variables that Prefect and its integrations read."""
    models = [Settings, KubernetesSettings, *_REDIS_MODELS]
    return {name for model in models for name in variables_of(model)}


def test_every_rendered_setting_is_read_by_the_pinned_prefect(known: set[str]) -> None:
    rendered = {
        variable["name"]
        for items in all_objects().values()
        for item in items
        if (pod := pod_of(item))
        for container in containers(pod["spec"])
        for variable in container.get("env", [])
        if variable["name"].startswith("PREFECT_")
    }
    assert len(rendered) > 20
    assert rendered - known == set(READ_BY_GETENV)


@pytest.mark.parametrize(
    ("hosts", "variable"),
    [
        (None, None),
        ("any", None),
        ([], ""),
        (["hooks.slack.com", "mail.example.org"], "hooks.slack.com,mail.example.org"),
    ],
)
def test_declared_hosts_reach_the_processes_that_send(hosts: object, variable: str | None) -> None:
    rendered = objects(STORIES["server-ha"].with_values({"notifications.hosts": hosts}))

    for component in ("api", "services"):
        pod = find(rendered, "Deployment", component)["spec"]["template"]["spec"]
        env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        assert env.get("NOTIFICATION_HOSTS") == variable


def test_settings_of_each_model_are_found(known: set[str]) -> None:
    assert {
        "PREFECT_API_URL",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE",
        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES",
        "PREFECT_REDIS_MESSAGING_URL",
    } <= known
    assert "PREFECT_SERVER_DATABASE_POOL" not in known
