"""Render each story once: a chart with the values of one use case, or a folder of manifests."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube import manifests

# Helm ends before its memory needs a collection, which takes a quarter of its processor time. More
# than one thread would only compete with the other test processes.
_CHEAP = {**os.environ, "GOGC": "off", "GOMAXPROCS": "1"}
HELM_CHARTS = REPOSITORY / "helm"
ENVIRONMENTS = REPOSITORY / "k8s" / "environments"
LOCAL = ENVIRONMENTS / "local"
ARGOCD = REPOSITORY / "k8s" / "argocd"
IMAGES = {
    f"prefect-platform.local/{name}": f"prefect-platform.local/{name}:0123456789ab"
    for name in ("flows", "postgres", "redis", "seaweedfs")
}

Object = dict[str, Any]


@dataclass(frozen=True)
class Story:
    """A chart of helm/ or the path of another, its values files, and values for `--set-json`."""

    chart: str
    namespace: str
    files: tuple[Path, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.chart, self.namespace, self.files, json.dumps(dict(self.values))))

    def with_values(self, values: Mapping[str, object]) -> "Story":
        return Story(self.chart, self.namespace, self.files, {**self.values, **values})


def environment(name: str, values: str) -> tuple[Path, ...]:
    """Return the values files of an environment for a chart."""
    return ENVIRONMENTS / name / f"{values}.yaml", ENVIRONMENTS / name / "retention.yaml"


_SERVER_TAGS = {"image.tag": "0123456789ab", "database.embedded.image.tag": "ba9876543210"}
_HA_TAGS = {**_SERVER_TAGS, "redis.embedded.image.tag": "ccba98765432", "mode": "ha"}
_CONTROLLER = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}
}
# What images.yaml sets for both charts; that of an environment changes with every push.
_DIGESTS: dict[str, object] = {
    "global.imageRegistry": "registry.example.org/prefect-platform",
    "global.imageDigests": {
        name: f"sha256:{digit * 64}"
        for name, digit in (("platform", "0"), ("flows", "1"), ("postgres", "2"), ("redis", "3"))
    },
}
_WORKER_TAGS = {"image.tag": "0123456789ab", "jobs.image.tag": "0123456789ab"}


def _platform(environment: str) -> dict[str, object]:
    """Return the value that `--set-file` sets for the worker's chart."""
    return {"configuration.platform": (ENVIRONMENTS / environment / "platform.yaml").read_text()}


STORIES = {
    "server-defaults": Story("prefect-server", "prefect"),
    "server": Story("prefect-server", "prefect", values=_SERVER_TAGS),
    "server-local": Story(
        "prefect-server", "prefect", environment("local", "server"), _SERVER_TAGS
    ),
    "server-external-host": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "database.mode": "external",
            "database.external.host": "db.example.org",
        },
    ),
    "server-external-url": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "database.mode": "external",
            "database.external.connectionUrlSecret.name": "our-database",
        },
    ),
    "server-ha": Story("prefect-server", "prefect", values=_HA_TAGS),
    "server-ha-scaled": Story(
        "prefect-server", "prefect", values={**_HA_TAGS, "api.autoscaling.enabled": True}
    ),
    "server-ha-external": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "mode": "ha",
            "database.mode": "external",
            "database.external.host": "db.example.org",
            "database.external.maxConnections": 40,
            "redis.mode": "external",
            "redis.external.urlSecret.name": "our-redis",
        },
    ),
    "server-external-tls": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "database.mode": "external",
            "database.external.host": "db.example.org",
            "database.external.tls.mode": "verify-full",
            "database.external.tls.caSecret.name": "our-authority",
            "database.external.tls.clientCertificateSecret.name": "our-certificate",
        },
    ),
    "server-new-key": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "auth.previousSecret.name": "our-previous-auth-string",
            "encryption.previousSecret.name": "our-previous-key",
        },
    ),
    "server-auth-string": Story(
        "prefect-server", "prefect", values={**_SERVER_TAGS, "auth.runIdentity.enabled": False}
    ),
    "server-tls": Story(
        "prefect-server",
        "prefect",
        values={**_SERVER_TAGS, "api.tls.enabled": True, "api.tls.secret.name": "our-certificate"},
    ),
    "server-cert-manager": Story(
        "prefect-server",
        "prefect",
        values={
            **_HA_TAGS,
            "publicUrl": "https://example.org/prefect",
            "ingress.enabled": True,
            "networkPolicies.apiProxies": [_CONTROLLER],
            "api.tls.enabled": True,
            "api.tls.certManager.issuerRef.name": "our-authority",
        },
    ),
    "server-cloudnative-pg": Story(
        "prefect-server",
        "prefect",
        values={**_HA_TAGS, "database.mode": "cloudnative-pg"},
    ),
    "server-ingress": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "publicUrl": "https://example.org/prefect",
            "ingress.enabled": True,
            "ingress.tls.secretName": "example-org",
            "networkPolicies.apiProxies": [_CONTROLLER],
        },
    ),
    "server-http-route": Story(
        "prefect-server",
        "prefect",
        values={
            **_SERVER_TAGS,
            "publicUrl": "https://prefect.example.org",
            "httpRoute.enabled": True,
            "httpRoute.parentRefs": [{"name": "public", "namespace": "gateways"}],
            "networkPolicies.apiProxies": [_CONTROLLER],
        },
    ),
    "server-staging": Story(
        "prefect-server",
        "prefect",
        environment("staging", "server"),
        _DIGESTS,
    ),
    "server-production": Story(
        "prefect-server",
        "prefect",
        environment("production", "server"),
        _DIGESTS,
    ),
    "worker-defaults": Story("prefect-worker", "prefect-workers"),
    "worker": Story("prefect-worker", "prefect-workers", values=_WORKER_TAGS),
    "worker-pools": Story(
        "prefect-worker",
        "prefect-workers",
        values={
            **_WORKER_TAGS,
            "pools.etl": {"jobs": {"image": {"tag": "ba9876543210"}}, "worker": {"limit": 3}},
            "worker.logFormat": "json",
            "jobs.logFormat": "json",
            "jobs.createNamespace": True,
            "priorityClass.create": True,
        },
    ),
    "worker-auth-string": Story(
        "prefect-worker",
        "prefect-workers",
        values={**_WORKER_TAGS, "auth.runIdentity.enabled": False},
    ),
    "worker-tls": Story(
        "prefect-worker",
        "prefect-workers",
        values={
            **_WORKER_TAGS,
            "api.url": "https://prefect-server.prefect.svc.cluster.local:4200/api",
            "api.certificateAuthority.name": "our-authority",
            "configuration.platform": "work_pools: {default: {}}\n",
        },
    ),
    "worker-configuration": Story(
        "prefect-worker",
        "prefect-workers",
        values={
            **_WORKER_TAGS,
            "configuration.platform": "work_pools: {default: {}}\n",
            "configuration.secrets": ["alerts"],
        },
    ),
    **{
        f"worker-{name}": Story(
            "prefect-worker",
            "prefect-workers",
            environment(name, "worker"),
            {**images, **_platform(name)},
        )
        for name, images in (
            ("local", _WORKER_TAGS),
            ("staging", _DIGESTS),
            ("production", _DIGESTS),
        )
    },
}


def arguments(story: Story) -> list[str | Path]:
    """Return the arguments of `helm template` and `helm lint`: chart, namespace and values."""
    given: list[str | Path] = [HELM_CHARTS / story.chart, "--namespace", story.namespace]
    for file in story.files:
        given += ["--values", file]
    for key, value in story.values.items():
        given += ["--set-json", f"{key}={json.dumps(value)}"]
    return given


@cache
def template(story: Story) -> subprocess.CompletedProcess[str]:
    """Run `helm template`; the caller checks the exit code."""
    argv = [tool("helm"), "template", Path(story.chart).name, *arguments(story)]
    return subprocess.run(argv, env=_CHEAP, capture_output=True, text=True, check=False)


def objects(story: Story) -> list[Object]:
    """Return the objects that a story renders; fail with helm's error message if it cannot."""
    items: list[Object] = json.loads(_as_json(story))
    return items


@cache
def _as_json(story: Story) -> str:
    # Tests read a story many times and change what they get. Python reads JSON 20 times as fast.
    rendered = template(story)
    assert rendered.returncode == 0, rendered.stderr
    return json.dumps(
        [item for item in yaml.load_all(rendered.stdout, Loader=yaml.CSafeLoader) if item]
    )


@cache
def local_data() -> str:
    """Render the data services of the local environment."""
    return manifests.render(tool("kubectl"), LOCAL / "data", IMAGES)


def all_objects() -> dict[str, list[Object]]:
    """Return everything that the repository renders, by story."""
    rendered = {name: objects(story) for name, story in STORIES.items()}
    rendered["data-local"] = json.loads(local_data())["items"]
    for name in ("local", "staging", "production"):
        rendered[f"namespaces-{name}"] = namespaces(name)
    for name in ("staging", "production"):
        rendered[f"secrets-{name}"] = external_secrets(name)
        rendered[f"argocd-{name}"] = argocd(name)
    return rendered


def namespaces(environment: str) -> list[Object]:
    """Return the objects in the namespaces.yaml of an environment."""
    text = (ENVIRONMENTS / environment / "namespaces.yaml").read_text()
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


@cache
def external_secrets(environment: str) -> list[Object]:
    """Return the objects that bring Terraform's secrets into the cluster of an environment."""
    rendered = manifests.render(tool("kubectl"), ENVIRONMENTS / environment / "secrets", {})
    items: list[Object] = json.loads(rendered)["items"]
    return items


@cache
def argocd(environment: str) -> list[Object]:
    """Return the projects and the root Application of an environment, and those that it creates."""
    files = (ENVIRONMENTS / environment / "argocd.yaml",)
    root = objects(
        Story(
            str(ARGOCD / "root"), "argocd", files, {"repository.url": "https://example.org/a.git"}
        )
    )
    (application,) = (item for item in root if item["kind"] == "Application")
    values = application["spec"]["source"]["helm"]["valuesObject"]
    return root + objects(Story(str(ARGOCD / "applications"), "argocd", values=values))


def find(rendered: list[Object], kind: str, component: str, *, pool: str = "") -> Object:
    """Return the only object of a kind that a component has, optionally for one work pool."""
    found = [
        item
        for item in rendered
        if item["kind"] == kind
        and item["metadata"]["labels"]["app.kubernetes.io/component"] == component
        and pool in {"", item["metadata"]["labels"].get("prefect.io/work-pool-name")}
    ]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} for {component}"
    return found[0]


def pod_of(item: Object) -> Object | None:
    """Return the pod that an object is, or the template of the pods that it creates."""
    if item["kind"] == "Pod":
        return item
    spec = item.get("spec", {})
    template: Object | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template


def containers(pod: Object) -> Iterator[Object]:
    """Yield the init containers and the containers of a pod's spec."""
    yield from pod.get("initContainers", [])
    yield from pod["containers"]
