"""Generate the secrets of an environment without Terraform once, then keep them.

The values are stored in the cluster only. Other namespaces have copies, which are updated when
their source changes. To rotate a secret, delete its Secret or change its value.
"""

import base64
import json
import secrets
from collections.abc import Callable, Mapping

from cryptography.fernet import Fernet
from kubernetes import client

from prefect_platform.errors import PlatformError
from prefect_platform_cli.kube import names

_LABELS = {**names.PART_OF, "app.kubernetes.io/managed-by": "prefect-platform"}
_NOT_FOUND = 404

Keys = Mapping[str, str]
"""An S3 key: access-key-id and secret-access-key."""


Name = tuple[str, str]
"""Namespace and name of a Secret."""

_AUTH: Name = (names.SERVER_NAMESPACE, names.AUTH_SECRET)
_DATABASE: Name = (names.SERVER_NAMESPACE, names.DATABASE_SECRET)
_ENCRYPTION: Name = (names.SERVER_NAMESPACE, names.ENCRYPTION_SECRET)
_REDIS: Name = (names.SERVER_NAMESPACE, names.REDIS_SECRET)
_OBJECT_STORE: Name = (names.DATA_NAMESPACE, names.OBJECT_STORE)
_WAREHOUSE: Name = (names.DATA_NAMESPACE, names.WAREHOUSE)
_RESULT_LOCKS: Name = (names.DATA_NAMESPACE, names.RESULT_LOCKS)
_S3_KEY = ("access-key-id", "secret-access-key")


def _random() -> str:
    return secrets.token_urlsafe(24)


def bootstrap_secrets(api: client.ApiClient) -> list[str]:
    """Create the missing Secrets of the servers; return those that were created or updated.

    Raises PlatformError, before anything is created, when the key of the encrypted blocks is
    missing, and kubernetes' ApiException when a namespace is missing or writing is forbidden.
    """
    core = client.CoreV1Api(api)
    _refuse_lost_key(api)

    def keep(secret: Name, key: str, generate: Callable[[], str] = _random) -> str:
        return _read(core, *secret).get(key) or generate()

    admin = {key: keep(_OBJECT_STORE, key) for key in _S3_KEY}
    pool = {key: keep(_OBJECT_STORE, f"{names.POOL}-{key}") for key in _S3_KEY}
    wanted = {
        _AUTH: {"auth-string": keep(_AUTH, "auth-string", lambda: f"admin:{_random()}")},
        _ENCRYPTION: {"key": keep(_ENCRYPTION, "key", lambda: Fernet.generate_key().decode())},
        _OBJECT_STORE: {
            **admin,
            **{f"{names.POOL}-{key}": value for key, value in pool.items()},
            "s3.json": s3_identities(admin, {names.POOL: pool}),
        },
        **{
            each: {"password": keep(each, "password")}
            for each in (_DATABASE, _REDIS, _WAREHOUSE, _RESULT_LOCKS)
        },
    }
    return _ensure_all(core, wanted)


def copy_secrets(api: client.ApiClient, *, run_identity: bool) -> list[str]:
    """Update the Secrets of workers and job pods; return those that were not up to date.

    They need the auth string only without `run_identity`. Call it after the servers use the values,
    because job pods may read theirs at any time. Raises kubernetes' ApiException when a
    namespace is missing or writing is forbidden.
    """
    core = client.CoreV1Api(api)
    store = _read(core, *_OBJECT_STORE)
    locks = f"{names.RESULT_LOCKS}:{_read(core, *_RESULT_LOCKS)['password']}"  # user and password
    locks_host = f"{names.RESULT_LOCKS}.{names.DATA_NAMESPACE}.svc.cluster.local"
    wanted = {
        **{
            (namespace, names.AUTH_SECRET): {"auth-string": read_auth_string(api)}
            for namespace in (names.WORKER_NAMESPACE, names.JOB_NAMESPACE)
            if not run_identity
        },
        (names.JOB_NAMESPACE, names.OBJECT_STORE): {
            key: store[f"{names.POOL}-{key}"] for key in _S3_KEY
        },
        (names.JOB_NAMESPACE, names.WAREHOUSE): {"password": _read(core, *_WAREHOUSE)["password"]},
        (names.JOB_NAMESPACE, names.RESULT_LOCKS): {"url": f"redis://{locks}@{locks_host}:6379/0"},
    }
    return _ensure_all(core, wanted)


def s3_identities(admin: Keys, pools: Mapping[str, Keys]) -> str:
    """Return SeaweedFS's identities: one with all rights, and one for each pool's job pods.

    Each pool can read the raw data, has a folder of its own for results, and shares the artifacts.
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
    """Return a string that changes with the Secret and reveals nothing about its values."""
    secret = client.CoreV1Api(api).read_namespaced_secret(name, namespace)
    return str(secret.metadata.resource_version)


def has_secret(api: client.ApiClient, namespace: str, name: str) -> bool:
    """Return whether the Secret exists and has a value."""
    return bool(_read(client.CoreV1Api(api), namespace, name))


def read_auth_string(api: client.ApiClient) -> str:
    """Return the API's "user:password"; empty when the Secret is missing."""
    return _read(client.CoreV1Api(api), *_AUTH).get("auth-string", "")


def _refuse_lost_key(api: client.ApiClient) -> None:
    """Raise PlatformError when a new key would make a server's blocks unreadable for good."""
    keys = (names.ENCRYPTION_SECRET, f"{names.ENCRYPTION_SECRET}-previous")
    if any(has_secret(api, names.SERVER_NAMESPACE, name) for name in keys):
        return
    if client.AppsV1Api(api).list_namespaced_deployment(names.SERVER_NAMESPACE).items:
        raise PlatformError(
            f"the Secret {names.ENCRYPTION_SECRET} is missing in the namespace "
            f"{names.SERVER_NAMESPACE}; it holds the key of the encrypted blocks, which a new key "
            "cannot decrypt",
            next_step="restore the key: see A lost key in docs/operations/rotation.md",
        )


def _identity(name: str, keys: Keys, *actions: str) -> dict[str, object]:
    credentials = {"accessKey": keys["access-key-id"], "secretKey": keys["secret-access-key"]}
    return {"name": name, "credentials": [credentials], "actions": actions}


def _ensure_all(core: client.CoreV1Api, wanted: Mapping[Name, dict[str, str]]) -> list[str]:
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
    # A Secret that was created by hand, such as a restored key, gets the labels of managed ones.
    if data.items() <= _values(existing).items() and _LABELS.items() <= labels.items():
        return False
    core.patch_namespaced_secret(name, namespace, body)
    return True
