"""Prefect without this platform: its own server and worker, as the defaults of its charts run them.

The facts are those of the charts prefect-server and prefect-worker of August 2026, with
`apiConfig: selfHostedServer`. Different are the images, and with them the user and the command: the
images of the platform stand in for those of Prefect, whose packages have their byte code, too. The
server does not send its usage to Prefect.
"""

import json
from typing import Any

NAMESPACE = "stock-prefect"
POOL = "stock"
SERVER = "prefect-server"
WORKER = "prefect-worker"
_DATABASE = "prefect-server-postgresql"
_PORT = 4200
_DATA = "/var/lib/postgresql/data"
# A distribution of the same name that Python finds first. It hides the entry points by which the
# image's own package would add a type of block to the server.
_HIDDEN = "/hidden/prefect_platform-0.dist-info"
_METADATA = "Metadata-Version: 2.1\nName: prefect-platform\nVersion: 0\n"


def manifests(image: str, postgres: str, password: str) -> str:
    """Return the objects of the set-up, whose server and worker run `image`."""
    url = f"postgresql+asyncpg://prefect:{password}@{_DATABASE}:5432/server"
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _object("v1", "ConfigMap", "hidden", data={"METADATA": _METADATA}),
        *_database(postgres, password),
        *_server(image, url),
        *_worker(image),
    ]
    return "\n---\n".join(map(json.dumps, objects))


def _database(image: str, password: str) -> list[dict[str, Any]]:
    ready = {
        "exec": {"command": ["pg_isready", "--host=127.0.0.1"]},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    }
    container = {
        "name": "postgresql",
        "image": image,
        "env": _env(
            POSTGRES_DB="server",
            POSTGRES_USER="prefect",
            POSTGRES_PASSWORD=password,
            PGDATA=f"{_DATA}/pgdata",
        ),
        "ports": [{"containerPort": 5432}],
        "livenessProbe": {**ready, "initialDelaySeconds": 30},
        "readinessProbe": {**ready, "initialDelaySeconds": 5},
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": _DATA}],
    }
    pod = {
        "securityContext": {"runAsUser": 999, "fsGroup": 999},
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    return [_deployment(_DATABASE, "database", pod), _service(_DATABASE, "database", 5432)]


def _server(image: str, database_url: str) -> list[dict[str, Any]]:
    def probe(path: str, delay: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": f"/api/{path}", "port": _PORT},
            "initialDelaySeconds": delay,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    container = {
        **_prefect(image, "server", "start", "--port", str(_PORT)),
        "env": _env(
            HOME="/home/prefect",
            PYTHONPATH="/hidden",
            PREFECT_DEBUG_MODE="false",
            PREFECT_LOGGING_SERVER_LEVEL="WARNING",
            PREFECT_SERVER_API_BASE_PATH="/api",
            PREFECT_SERVER_API_HOST="0.0.0.0",  # noqa: S104 - in a pod
            PREFECT_SERVER_API_PORT=str(_PORT),
            PREFECT_UI_API_URL=f"http://localhost:{_PORT}/api",
            PREFECT_API_DATABASE_CONNECTION_URL=database_url,
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
        ),
        "ports": [{"containerPort": _PORT}],
        "startupProbe": probe("health", 0, 30),
        "livenessProbe": probe("health", 10, 3),
        "readinessProbe": probe("ready", 10, 3),
        "resources": {
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
    }
    pod = {**_pod(), "containers": [container]}
    return [_deployment(SERVER, "api", pod), _service(SERVER, "api", _PORT)]


def _worker(image: str) -> list[dict[str, Any]]:
    container = {
        **_prefect(image, "worker", "start", "--type", "kubernetes", "--pool", POOL),
        "env": _env(
            HOME="/home/prefect",
            PYTHONPATH="/hidden",
            PREFECTWORKER_PREFETCH_SECONDS="10",
            PREFECTWORKER_QUERY_SECONDS="5",
            PREFECT_API_ENABLE_HTTP2="true",
            PREFECT_API_URL=f"http://{SERVER}.{NAMESPACE}.svc.cluster.local:{_PORT}/api",
            PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES=NAMESPACE,
            PREFECT_DEBUG_MODE="false",
        ),
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
    }
    read = {
        "apiGroups": [""],
        "resources": ["events", "pods", "pods/log", "pods/status"],
        "verbs": ["get", "watch", "list"],
    }
    write = {
        "apiGroups": ["batch"],
        "resources": ["jobs"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    }
    rbac = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": WORKER, "namespace": NAMESPACE}
    return [
        _object("v1", "ServiceAccount", WORKER),
        _object(f"{rbac}/v1", "Role", WORKER, rules=[read, write]),
        _object(
            f"{rbac}/v1",
            "RoleBinding",
            WORKER,
            roleRef={"apiGroup": rbac, "kind": "Role", "name": WORKER},
            subjects=[account],
        ),
        _deployment(
            WORKER,
            "worker",
            {**_pod(), "serviceAccountName": WORKER, "containers": [container]},
        ),
    ]


def _prefect(image: str, *arguments: str) -> dict[str, Any]:
    """Return what the containers of server and worker share."""
    return {
        "name": "prefect",
        "image": image,
        "args": ["prefect", *arguments],
        "workingDir": "/home/prefect",
        "securityContext": {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/home/prefect", "subPath": "home"},
            {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 - in a pod
            {"name": "hidden", "mountPath": _HIDDEN},
        ],
    }


def _pod() -> dict[str, Any]:
    return {
        "securityContext": {
            "runAsUser": 1000,
            "runAsNonRoot": True,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "hidden", "configMap": {"name": "hidden"}},
        ],
    }


def _env(**variables: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def _object(version: str, kind: str, name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _labels(component: str) -> dict[str, str]:
    return {"app.kubernetes.io/component": component}


def _deployment(name: str, component: str, pod: dict[str, Any]) -> dict[str, Any]:
    labels = _labels(component)
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return _object("apps/v1", "Deployment", name, spec=spec)


def _service(name: str, component: str, port: int) -> dict[str, Any]:
    spec = {"selector": _labels(component), "ports": [{"port": port}]}
    return _object("v1", "Service", name, spec=spec)
