"""A Prefect server that knows runs by the tokens of a real Kubernetes API server."""

import base64
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from prefect.client.base import PrefectHttpxSyncClient

from prefect_platform.polling import wait_until
from prefect_platform.run_identity.grants import variable_of
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support import servers
from tests.support.control_plane import control_plane

AUDIENCE = "prefect-server.prefect"
AUTH = ("admin", "of-people")
OUTSIDE = ("outside", "of-the-worker")  # the work pool and the password of a worker elsewhere
INTRUDED = ("absent", "empty")  # work pools with the same password
ISSUER = "https://issuer.example.org"
# A grant for each object of others that the fixture `ids` creates.
EVERYTHING = {
    "blocks": ["secret/theirs"],
    "variables": ["theirs"],
    "writable_variables": ["position"],
    "deployments": ["ours/default"],
    "concurrency_limits": ["theirs"],
}
# ServiceAccounts of the platform's own parts, and what stands behind AUDIENCE in their tokens.
PARTS = {
    "worker": "work-pools/parts",
    "reaper": "reaper",
    "configuration": "configuration",
    "release-test": "release-test",
}
_KNOWN_WITHIN = 30.0

_POD = {"containers": [{"name": "prefect-job", "image": "flows"}]}


@dataclasses.dataclass(frozen=True)
class World:
    """A server with two runs of one work pool and one of another, and who may ask for tokens."""

    url: str
    kubectl: Kubectl
    key: Path
    log: Path

    @cached_property
    def people(self) -> httpx.Client:
        """Return a client with the auth string."""
        return self._client(auth=AUTH)

    def run(self, flow_run: str, **options: str) -> httpx.Client:
        """Return a client with the token of a run's pod."""
        return self.bearer(self.token(flow_run, **options))

    def part(self, part: str) -> httpx.Client:
        """Return a client with the token of a part of the platform."""
        return self.bearer(self.token_of(part))

    def outside(self, password: str = OUTSIDE[1]) -> httpx.Client:
        """Return a client with the auth string of a worker outside the cluster."""
        return self._client(auth=(OUTSIDE[0], password))

    def bearer(self, token: str) -> httpx.Client:
        """Return a client with a token."""
        return self._client(headers={"Authorization": f"Bearer {token}"})

    def _client(self, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx's
        # Like every Prefect client, it tries again while another writer locks the database.
        return PrefectHttpxSyncClient(
            base_url=self.url, timeout=60, raise_on_all_errors=False, **options
        )

    def api(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of a request with the auth string; raises httpx.HTTPStatusError."""
        answer = self.people.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def token(
        self,
        flow_run: str | UUID,
        *,
        audience: str = AUDIENCE,
        namespace: str = "flows",
        account: str = "flows",
        pod: str | None = "run",
    ) -> str:
        """Return a token as the kubelet requests it for the pod of a flow run."""
        return self.token_for(f"{audience}/flow-runs/{flow_run}", namespace, account, pod)

    def token_of(self, part: str) -> str:
        """Return a token as the kubelet requests it for the pod of a part of the platform."""
        return self.token_for(f"{AUDIENCE}/{PARTS[part]}", "workers", part, part)

    def token_for(self, audience: str, namespace: str, account: str, pod: str | None) -> str:
        """Return a token for any audience, bound to a pod if one is given."""
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
        return self.kubectl(
            *("create", "token", account, f"--namespace={namespace}", "--duration=10m"),
            *(f"--audience={audience}", *bound),
        ).strip()

    def resigned(self, token: str, key: rsa.RSAPrivateKey | None = None, **claims: object) -> str:
        """Return the token with other claims, signed with the cluster's key or another one."""
        header, payload, _ = token.split(".")
        changed = {**json.loads(base64.urlsafe_b64decode(f"{payload}==")), **claims}
        signed = f"{header}.{_encoded(json.dumps(changed).encode())}"
        if key is None:
            read = serialization.load_pem_private_key(self.key.read_bytes(), None)
            assert isinstance(read, rsa.RSAPrivateKey)
            key = read
        return f"{signed}.{_encoded(key.sign(signed.encode(), PKCS1v15(), hashes.SHA256()))}"

    def create_pod(self, namespace: str, name: str, account: str = "flows") -> None:
        """Create a pod, which no node runs."""
        self.kubectl.apply(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": {**_POD, "serviceAccountName": account},
                }
            )
        )


@dataclasses.dataclass(frozen=True)
class Objects:
    """A run of the pool `default`, and what others have: ids and names."""

    own: str
    own_task: str
    child: str
    own_artifact: str
    deployment: str
    foreign: str
    foreign_task: str
    foreign_artifact: str
    other_pool: str
    other_task: str
    other_deployment: str
    flow: str
    block: str
    block_type: str
    block_schema: str
    limit: str
    automation: str
    queue: str
    other_queue: str


def grant(world: World, ids: Objects, **grants: list[str]) -> None:
    """Let the runs of the pool `other` use something, and wait until the server knows it.

    The grants have to differ from the ones before in the variable `theirs`.
    """
    name = variable_of("other")
    world.people.delete(f"/variables/name/{name}")
    world.api("POST", "/variables/", {"name": name, "value": grants})
    granted = "theirs" in grants.get("variables", ())
    with world.run(ids.other_pool, namespace="others") as run:
        assert wait_until(
            lambda: run.get("/variables/name/theirs").is_success == granted, _KNOWN_WITHIN
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start Kubernetes' API server and Prefect's."""
    directory = tmp_path_factory.mktemp("run-identity")
    with running_world(directory, tmp_path_factory.mktemp("prefect-server")) as world:
        yield world


@contextmanager
def running_world(directory: Path, folder: Path) -> Iterator[World]:
    """Start Kubernetes' API server in `directory`, and Prefect's in `folder`."""
    with control_plane(directory, ISSUER) as kubectl:
        kubectl.apply(yaml.safe_dump_all(_objects()))
        # Reviews of tokens need no OIDC discovery, which hardened clusters close.
        kubectl("delete", "clusterrolebinding", "system:service-account-issuer-discovery")
        (directory / "server.kubeconfig").write_text(_kubeconfig(directory, kubectl))
        passwords = directory / "worker-passwords"
        passwords.mkdir()
        for pool in (OUTSIDE[0], *INTRUDED):
            (passwords / pool).write_text(f"{OUTSIDE[1]}\n")
        with servers.prefect_server(
            folder,
            KUBECONFIG=str(directory / "server.kubeconfig"),
            PREFECT_PLUGINS_ENABLED="true",
            PREFECT_PLUGINS_ALLOW="run-identity",
            PREFECT_SERVER_API_AUTH_STRING=":".join(AUTH),
            RUN_IDENTITY_AUDIENCE=AUDIENCE,
            WORKER_PASSWORDS=str(passwords),
        ) as url:
            world = World(url, kubectl, directory / "service-accounts.key", folder / "log")
            world.create_pod("flows", "run")
            world.create_pod("others", "run")
            for part in PARTS:
                world.create_pod("workers", part, part)
            yield world


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _objects() -> Iterator[dict[str, Any]]:
    for namespace in ("prefect", "flows", "others", "workers"):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    for namespace, account in (
        *(("prefect", "server"), ("flows", "flows"), ("others", "flows")),
        *(("workers", account) for account in PARTS),
    ):
        metadata = {"name": account, "namespace": namespace}
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    yield _binding("server", "system:auth-delegator", "prefect", "server")
    for pool, namespace in (("default", "flows"), ("other", "others")):
        yield from _right("run", f"work-pools/{pool}", namespace, "flows")
    for account, path in PARTS.items():
        yield from _right("work" if account == "worker" else "use", path, "workers", account)


def _right(verb: str, path: str, namespace: str, account: str) -> Iterator[dict[str, Any]]:
    """Yield the right of a ServiceAccount to act as a part of the platform."""
    name = f"{verb}-{path.replace('/', '-')}"
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"nonResourceURLs": [f"/{AUDIENCE}/{path}"], "verbs": [verb]}],
    }
    yield _binding(name, name, namespace, account)


def _binding(name: str, role: str, namespace: str, account: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def _kubeconfig(directory: Path, kubectl: Kubectl) -> str:
    """Return a kubeconfig with the rights of the server, in place of the administrator's."""
    kubeconfig = yaml.safe_load((directory / "kubeconfig").read_text())
    token = kubectl("create", "token", "server", "--namespace=prefect", "--duration=1h").strip()
    kubeconfig["users"][0]["user"] = {"token": token}
    return json.dumps(kubeconfig)


@pytest.fixture(scope="session")
def ids(world: World) -> Objects:
    """Create what the tests use."""
    return create_objects(world)


def create_objects(world: World) -> Objects:
    """Create two pools with runs, and a block, a variable, a limit and an automation."""
    for pool in ("default", "other"):
        world.api("POST", "/work_pools/", {"name": pool, "type": "kubernetes"})
    flow = world.api("POST", "/flows/", {"name": "ours"})["id"]
    deployments = {
        pool: world.api(
            "POST", "/deployments/", {"name": pool, "flow_id": flow, "work_pool_name": pool}
        )["id"]
        for pool in ("default", "other")
    }
    own, foreign = (create_run(world, deployments["default"]) for _ in range(2))
    other = create_run(world, deployments["other"])
    child_task, foreign_task = (create_task(world, run, "child") for run in (own, foreign))
    block_type = world.api("GET", "/block_types/slug/secret")["id"]
    schemas = world.api(
        "POST",
        "/block_schemas/filter",
        {"block_schemas": {"block_type_id": {"any_": [block_type]}}},
    )
    block = world.api(
        "POST",
        "/block_documents/",
        {
            "name": "theirs",
            "data": {"value": "of-the-block"},
            "block_type_id": block_type,
            "block_schema_id": schemas[0]["id"],
        },
    )
    for name in ("theirs", "ours"):
        world.api("POST", "/variables/", {"name": name, "value": "of-the-variable"})
    limit = world.api("POST", "/v2/concurrency_limits/", {"name": "theirs", "limit": 100})["id"]
    automation = world.api("POST", "/automations/", _AUTOMATION)["id"]
    return Objects(
        own=own,
        own_task=create_task(world, own, "task"),
        child=world.api("POST", "/flow_runs/", {"flow_id": flow, "parent_task_run_id": child_task})[
            "id"
        ],
        own_artifact=_artifact(world, own),
        deployment=deployments["default"],
        foreign=foreign,
        foreign_task=foreign_task,
        foreign_artifact=_artifact(world, foreign),
        other_pool=other,
        other_task=create_task(world, other, "task"),
        other_deployment=deployments["other"],
        flow=flow,
        block=block["id"],
        block_type=block_type,
        block_schema=schemas[0]["id"],
        limit=limit,
        automation=automation,
        queue=world.api("GET", f"/flow_runs/{own}")["work_queue_id"],
        other_queue=world.api("GET", "/work_pools/other/queues/default")["id"],
    )


_AUTOMATION = {
    "name": "theirs",
    "trigger": {"type": "event", "expect": ["never"], "posture": "Reactive", "threshold": 1},
    "actions": [{"type": "do-nothing"}],
}


def create_run(world: World, deployment: str, **fields: object) -> str:
    """Create a run of a deployment, and return its id."""
    made: str = world.api("POST", f"/deployments/{deployment}/create_flow_run", fields)["id"]
    return made


def create_task(world: World, flow_run: str, key: str) -> str:
    """Create a task run, and return its id."""
    body = {"flow_run_id": flow_run, "task_key": key, "dynamic_key": "0"}
    made: str = world.api("POST", "/task_runs/", body)["id"]
    return made


def _artifact(world: World, flow_run: str) -> str:
    body = {"key": "report", "type": "markdown", "data": "of-the-artifact", "flow_run_id": flow_run}
    made: str = world.api("POST", "/artifacts/", body)["id"]
    return made
