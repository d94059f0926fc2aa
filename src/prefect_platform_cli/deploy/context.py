"""Read from the cluster what a configuration refers to, with the user's own permissions."""

import base64
import json
from typing import Any

from kubernetes import client

from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl


class FromCluster:
    """The Secrets in prefect-worker's namespace, and the base job templates of its chart."""

    release = f"{names.WORKER_NAMESPACE}/{names.WORKER_RELEASE}"

    def __init__(self, kubectl: Kubectl) -> None:
        self._core = client.CoreV1Api(kubectl.api())

    def secret(self, name: str, key: str) -> bytes | None:
        """Return the value of a Secret of the namespace prefect-workers."""
        found = self._core.list_namespaced_secret(
            names.WORKER_NAMESPACE, field_selector=f"metadata.name={name}"
        ).items
        value = (found[0].data or {}).get(key) if found else None
        return base64.b64decode(value) if value is not None else None

    def base_job_template(self, pool: str) -> dict[str, Any] | None:
        """Return the base job template of a pool, from the installed chart."""
        found = self._core.list_namespaced_config_map(
            names.WORKER_NAMESPACE, field_selector=f"metadata.name={names.BASE_JOB_TEMPLATES}"
        ).items
        written = (found[0].data or {}).get(f"{pool}.json") if found else None
        return json.loads(written) if written else None

    def how_to_provide(self, secret: str) -> str:
        """Return the command that creates a Secret."""
        create = f"create secret generic {secret} --from-file=KEY"
        return f"kubectl --namespace {names.WORKER_NAMESPACE} {create}"
