"""Wait until Argo CD has deployed a commit, or until it says why it does not."""

import json
import time
from collections.abc import Mapping
from typing import Any

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while
from prefect_platform_cli.deploy.argocd.names import NAMESPACE
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl

_HERE = f"--namespace={NAMESPACE}"
_OURS = f"--selector={names.selector(part_of='prefect-platform')}"
# Without it, Argo CD looks for a new commit every few minutes.
_REFRESH = "argocd.argoproj.io/refresh=normal"
_ERRORS = ("ComparisonError", "InvalidSpecError", "SyncError")
_LASTING = 20  # seconds; Argo CD reports an error while one of its parts restarts, too


def wait_until_deployed(kubectl: Kubectl, commit: str, *, within: float) -> None:
    """Wait until every Application is Synced with `commit`, and Healthy.

    Raises PlatformError with Argo CD's message for an error that lasts, and after `within` seconds.
    """
    kubectl(_HERE, "annotate", "applications", _OURS, "--overwrite", _REFRESH)
    began: dict[str, float] = {}

    def unfinished() -> list[str]:
        listed = kubectl(_HERE, "get", "applications", _OURS, "--output=json")
        applications = json.loads(listed)["items"]
        now = time.monotonic()
        for failed in filter(None, map(_error, applications)):
            if now - began.setdefault(failed, now) > _LASTING:
                raise _stopped(f"Argo CD cannot deploy {commit[:12]}: {failed}")
        return [each for each in (_progress(item, commit) for item in applications) if each]

    if left := wait_while(unfinished, within, every=1):
        raise _stopped(
            f"Argo CD has not deployed {commit[:12]} after {within:.0f} s: " + "; ".join(left)
        )


def _error(application: Mapping[str, Any]) -> str:
    """Return the name of an Application and why Argo CD cannot compare or sync it, or nothing."""
    conditions = application.get("status", {}).get("conditions", [])
    messages = [each["message"] for each in conditions if each["type"] in _ERRORS]
    return f"{application['metadata']['name']}: {messages[0]}" if messages else ""


def _progress(application: Mapping[str, Any], commit: str) -> str:
    """Return the name of an Application and what it is waiting for, or nothing if it is done."""
    name, status = application["metadata"]["name"], application.get("status", {})
    sync, health = status.get("sync", {}), status.get("health", {})
    operation = status.get("operationState", {})
    synced = (sync.get("status"), sync.get("revision")) == ("Synced", commit)
    if not synced or operation.get("phase") == "Running":
        return f"{name} is {sync.get('status', 'new')}: {operation.get('message', 'not synced')}"
    if health.get("status") != "Healthy":
        return f"{name} is {health.get('status')}: {health.get('message', 'no reason given')}"
    return ""


def _stopped(message: str) -> PlatformError:
    return PlatformError(
        f"{message}. What was deployed before keeps running",
        next_step="correct the cause, commit it, and run the command again",
    )
