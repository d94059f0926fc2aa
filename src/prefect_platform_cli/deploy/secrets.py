"""Generate the secrets of an environment without Terraform once, then keep them.

A value lives in the cluster only. The copies that other namespaces need follow their source. To
rotate one, its Secret is deleted or given another value.
"""

import base64
import json
import secrets
from collections.abc import Callable, Mapping

from cryptography.fernet import Fernet
from kubernetes import client

from prefect_platform.errors import PlatformError

_LABELS = {
    "app.kubernetes.io/part-of": "prefect-platform",
    "app.kubernetes.io/managed-by": "prefect-platform",
}
_NOT_FOUND = 404

Keys = Mapping[str, str]
"""An S3 key: access-key-id and secret-access-key."""


def bootstrap_secrets(api: client.ApiClient) -> list[str]:
    """Create the Secrets of servers that are missing; return what was made or brought up to date.

    Raises PlatformError, before anything is made, when the key of encrypted blocks is gone; and
    kubernetes' ApiException when a namespace is missing or writing is forbidden.
    """
    core = client.CoreV1Api(api)
    _refuse_a_lost_key(api)

    def keep(namespace: str, name: str, key: str, generate: Callable[[], str]) -> str:
        return _read(core, namespace, name).get(key) or generate()

    keys = {
        "access-key-id": keep("data", "object-store", "access-key-id", _random),
        "secret-access-key": keep("data", "object-store", "secret-access-key", _random),
    }
    pool = {
        name: keep("data", "object-store", f"default-{name}", _random)
        for name in ("access-key-id", "secret-access-key")
    }
    wanted = {
        ("prefect", "prefect-auth"): {
            "auth-string": keep(
                "prefect", "prefect-auth", "auth-string", lambda: f"admin:{_random()}"
            )
        },
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
        ("data", "object-store"): {
            **keys,
            **{f"default-{name}": value for name, value in pool.items()},
            "s3.json": s3_identities(keys, {"default": pool}),
        },
        ("data", "warehouse"): {"password": keep("data", "warehouse", "password", _random)},
        ("data", "result-locks"): {"password": keep("data", "result-locks", "password", _random)},
    }
    return _ensure_all(core, wanted)


def copy_secrets(api: client.ApiClient) -> list[str]:
    """Bring the Secrets of workers and job pods up to date; return which were not.

    Call it once the servers have the values, because job pods may read theirs at any time. Raises
    kubernetes' ApiException when a namespace is missing or writing is forbidden.
    """
    core = client.CoreV1Api(api)
    auth = {"auth-string": read_auth_string(api)}
    store = _read(core, "data", "object-store")
    locks = _read(core, "data", "result-locks")["password"]
    wanted = {
        ("prefect-workers", "prefect-auth"): auth,
        ("flows-default", "prefect-auth"): auth,
        ("flows-default", "object-store"): {
            name: store[f"default-{name}"] for name in ("access-key-id", "secret-access-key")
        },
        ("flows-default", "warehouse"): {"password": _read(core, "data", "warehouse")["password"]},
        ("flows-default", "result-locks"): {
            "url": f"redis://:{locks}@result-locks.data.svc.cluster.local:6379/0"
        },
    }
    return _ensure_all(core, wanted)


def s3_identities(admin: Keys, pools: Mapping[str, Keys]) -> str:
    """Return SeaweedFS's identities: one with all rights, and one for each pool's job pods.

    Each pool may read the raw data, has its own results, and shares the artifacts.
    """
    return json.dumps(
        {
            "identities": [
                _identity("admin", admin, "Admin", "Read", "Write", "List", "Tagging"),
                *(
                    _identity(
                        f"pool-{pool}",
                        keys,
                        "Read:raw",
                        *(f"{verb}:results/{pool}/*" for verb in ("Read", "Write")),
                        *(f"{verb}:artifacts" for verb in ("Read", "Write")),
                    )
                    for pool, keys in pools.items()
                ),
            ]
        }
    )


def secret_version(api: client.ApiClient, namespace: str, name: str) -> str:
    """Return a string that changes with the Secret and reveals nothing of its values."""
    secret = client.CoreV1Api(api).read_namespaced_secret(name, namespace)
    return str(secret.metadata.resource_version)


def has_secret(api: client.ApiClient, namespace: str, name: str) -> bool:
    """Return whether the Secret exists and has a value."""
    return bool(_read(client.CoreV1Api(api), namespace, name))


def read_auth_string(api: client.ApiClient) -> str:
    """Return the API's "user:password"; empty when the Secret is missing."""
    return _read(client.CoreV1Api(api), "prefect", "prefect-auth").get("auth-string", "")


def _refuse_a_lost_key(api: client.ApiClient) -> None:
    """Raise PlatformError when a new key would make a server's blocks unreadable for good."""
    names = ("prefect-encryption", "prefect-encryption-previous")
    if any(has_secret(api, "prefect", name) for name in names):
        return
    if client.AppsV1Api(api).list_namespaced_deployment("prefect").items:
        raise PlatformError(
            "the Secret prefect-encryption is gone from the namespace prefect, and with it the key "
            "of the encrypted blocks; a new one could not read them",
            next_step="bring the key back, as docs/operations/rotation.md says under A lost key",
        )


def _identity(name: str, keys: Keys, *actions: str) -> dict[str, object]:
    credentials = {"accessKey": keys["access-key-id"], "secretKey": keys["secret-access-key"]}
    return {"name": name, "credentials": [credentials], "actions": actions}


def _random() -> str:
    return secrets.token_urlsafe(24)


def _ensure_all(
    core: client.CoreV1Api, wanted: Mapping[tuple[str, str], dict[str, str]]
) -> list[str]:
    return [
        f"{namespace}/{name}"
        for (namespace, name), data in wanted.items()
        if _ensure(core, namespace, name, data)
    ]


def _read(core: client.CoreV1Api, namespace: str, name: str) -> dict[str, str]:
    found = _find(core, namespace, name)
    return _values(found) if found else {}


def _find(core: client.CoreV1Api, namespace: str, name: str) -> client.V1Secret | None:
    try:
        return core.read_namespaced_secret(name, namespace)
    except client.ApiException as error:
        if error.status == _NOT_FOUND:
            return None
        raise


def _values(secret: client.V1Secret) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (secret.data or {}).items()}


def _ensure(core: client.CoreV1Api, namespace: str, name: str, data: dict[str, str]) -> bool:
    existing = _find(core, namespace, name)
    body = client.V1Secret(
        metadata=client.V1ObjectMeta(name=name, namespace=namespace, labels=_LABELS),
        string_data=data,
        type="Opaque",
    )
    if existing is None:
        core.create_namespaced_secret(namespace, body)
        return True
    labels = existing.metadata.labels or {}
    # Label a Secret that somebody made by hand, such as a restored key, as managed from now on.
    if data.items() <= _values(existing).items() and _LABELS.items() <= labels.items():
        return False
    core.patch_namespaced_secret(name, namespace, body)
    return True
