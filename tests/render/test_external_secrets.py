"""External Secrets creates exactly the Secrets that the pods of an environment use."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.render.components import pod_owners
from tests.support.rendering import (
    ENVIRONMENTS,
    STORIES,
    Object,
    external_secrets,
    objects,
)

NAMES = ["staging", "production"]
# Secrets that do not come from Terraform.
CREATED_ELSEWHERE = {
    ("prefect", "prefect-database-ca"),  # the database's CA certificate, created manually
    ("prefect", "prefect-tls"),  # created by cert-manager
}

Secrets = dict[tuple[str, str], set[str]]
"""The keys of Secrets by namespace and name."""


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping in `value`, at any depth."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from mappings(each)


def named_in(value: object) -> Iterator[tuple[str, set[str]]]:
    """Yield name and keys of each Secret that variables, volumes or an Ingress refer to."""
    for each in mappings(value):
        if "secretKeyRef" in each:
            yield each["secretKeyRef"]["name"], {each["secretKeyRef"]["key"]}
        if "secretName" in each:
            yield each["secretName"], {item["key"] for item in each.get("items", [])}
        if isinstance(each.get("secret"), Mapping) and "name" in each["secret"]:
            secret = each["secret"]  # in a projected volume or in platform.yaml
            keys = {item["key"] for item in secret.get("items", [])}
            yield secret["name"], keys | {secret["key"]} if "key" in secret else keys


def secrets_in_use(environment: str) -> Secrets:
    """Return the Secrets that the pods and the platform.yaml of an environment refer to."""
    found: Secrets = {}

    def add(namespace: str, value: object) -> None:
        for name, keys in named_in(value):
            found.setdefault((namespace, name), set()).update(keys)

    for component in ("server", "worker"):
        story = STORIES[f"{component}-{environment}"]
        for item in [*objects(story), *pod_owners(story)]:
            add(item["metadata"].get("namespace", story.namespace), item)
    platform = (ENVIRONMENTS / environment / "platform.yaml").read_text()
    add("prefect-workers", yaml.load(platform, Loader=yaml.CSafeLoader))
    return found


def of_kind(environment: str, kind: str) -> list[Object]:
    """Return the objects of a kind in the secrets/ folder of an environment."""
    return [item for item in external_secrets(environment) if item["kind"] == kind]


@pytest.mark.parametrize("environment", NAMES)
def test_exactly_the_secrets_and_keys_in_use_are_created(environment: str) -> None:
    created = {
        (item["metadata"]["namespace"], item["metadata"]["name"]): {
            entry["secretKey"] for entry in item["spec"]["data"]
        }
        for item in of_kind(environment, "ExternalSecret")
    }

    wanted = secrets_in_use(environment)
    assert created == {secret: wanted[secret] for secret in wanted.keys() - CREATED_ELSEWHERE}


@pytest.mark.parametrize("environment", NAMES)
def test_each_namespace_reads_secrets_with_a_service_account_that_no_pod_uses(
    environment: str,
) -> None:
    accounts = {
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in of_kind(environment, "ServiceAccount")
    }
    roles = [
        item["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        for item in of_kind(environment, "ServiceAccount")
    ]
    stores = {
        (
            item["metadata"]["namespace"],
            item["spec"]["provider"]["aws"]["auth"]["jwt"]["serviceAccountRef"]["name"],
        )
        for item in of_kind(environment, "SecretStore")
    }
    pods = {
        (item["metadata"].get("namespace", STORIES[story].namespace), each["serviceAccountName"])
        for story in (f"server-{environment}", f"worker-{environment}")
        for item in pod_owners(STORIES[story])
        for each in mappings(item)
        if "serviceAccountName" in each
    }

    assert stores == accounts
    assert {namespace for namespace, _ in accounts} == {ns for ns, _ in secrets_in_use(environment)}
    assert len(set(roles)) == len(roles)
    assert pods
    assert accounts & pods == set()
