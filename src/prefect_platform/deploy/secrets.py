"""The secrets of an environment without Terraform: each generated once, then kept.

A value lives in the cluster only. The copies that other namespaces need follow their source.
"""

import base64
import json
import secrets
from collections.abc import Callable, Mapping

from cryptography.fernet import Fernet
from kubernetes import client

_LABELS = {
    "app.kubernetes.io/part-of": "prefect-platform",
    "app.kubernetes.io/managed-by": "prefect-platform",
}
_NOT_FOUND = 404


def bootstrap_secrets(api: client.ApiClient) -> list[str]:
    """Create the Secrets that are missing; return what was made or brought up to date.

    Raises kubernetes' ApiException when a namespace is missing or writing is forbidden.
    """
    core = client.CoreV1Api(api)

    def keep(namespace: str, name: str, key: str, generate: Callable[[], str]) -> str:
        return _read(core, namespace, name).get(key) or generate()

    auth = keep("prefect", "prefect-auth", "auth-string", lambda: f"admin:{_random()}")
    keys = {
        "access-key-id": keep("data", "object-store", "access-key-id", _random),
        "secret-access-key": keep("data", "object-store", "secret-access-key", _random),
    }
    warehouse = {"password": keep("data", "warehouse", "password", _random)}
    wanted = {
        ("prefect", "prefect-auth"): {"auth-string": auth},
        ("prefect", "prefect-database"): {
            "password": keep("prefect", "prefect-database", "password", _random)
        },
        ("prefect", "prefect-redis"): {
            "password": keep("prefect", "prefect-redis", "password", _random)
        },
        ("prefect", "prefect-encryption"): {
            "key": keep(
                "prefect", "prefect-encryption", "key", lambda: Fernet.generate_key().decode()
            )
        },
        ("prefect-workers", "prefect-auth"): {"auth-string": auth},
        ("flows-default", "prefect-auth"): {"auth-string": auth},
        ("flows-default", "object-store"): keys,
        ("flows-default", "warehouse"): warehouse,
        ("data", "object-store"): {**keys, "s3.json": _s3_identities(keys)},
        ("data", "warehouse"): warehouse,
    }
    return [
        f"{namespace}/{name}"
        for (namespace, name), data in wanted.items()
        if _ensure(core, namespace, name, data)
    ]


def read_auth_string(api: client.ApiClient) -> str:
    """Return the API's "user:password"; empty when the Secret is not there."""
    return _read(client.CoreV1Api(api), "prefect", "prefect-auth").get("auth-string", "")


def _random() -> str:
    return secrets.token_urlsafe(24)


def _s3_identities(keys: Mapping[str, str]) -> str:
    credentials = {"accessKey": keys["access-key-id"], "secretKey": keys["secret-access-key"]}
    identity = {
        "name": "flows",
        "credentials": [credentials],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]})


def _read(core: client.CoreV1Api, namespace: str, name: str) -> dict[str, str]:
    try:
        found = core.read_namespaced_secret(name, namespace)
    except client.ApiException as error:
        if error.status == _NOT_FOUND:
            return {}
        raise
    return {key: base64.b64decode(value).decode() for key, value in (found.data or {}).items()}


def _ensure(core: client.CoreV1Api, namespace: str, name: str, data: dict[str, str]) -> bool:
    existing = _read(core, namespace, name)
    if data.items() <= existing.items():
        return False
    body = client.V1Secret(
        metadata=client.V1ObjectMeta(name=name, namespace=namespace, labels=_LABELS),
        string_data=data,
        type="Opaque",
    )
    if existing:
        core.patch_namespaced_secret(name, namespace, body)
    else:
        core.create_namespaced_secret(namespace, body)
    return True
