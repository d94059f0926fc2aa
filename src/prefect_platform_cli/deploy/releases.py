"""Install Helm releases, and upgrade them only when something differs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.clients import program
from prefect_platform_cli.kube.kubectl import Kubectl


@dataclass(frozen=True)
class Release:
    """A chart to install as `name` in `namespace`, with values files and single values.

    `settings` are values that take precedence over those of the files, and `contents` are files
    whose content is the value of a key.
    """

    name: str
    namespace: str
    chart: Path
    values: Sequence[Path]
    settings: Mapping[str, Any] = field(default_factory=dict)
    contents: Mapping[str, Path] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """Return Helm's arguments; it reads `settings` from standard input."""
        return [
            *(self.name, str(self.chart), f"--namespace={self.namespace}"),
            *(f"--values={path}" for path in self.values),
            "--values=-",
            *(f"--set-file={key}={path}" for key, path in self.contents.items()),
        ]

    def fingerprint(self) -> str:
        """Return a checksum of the chart, the values and the settings."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        files = sorted(path for path in self.chart.rglob("*") if path.is_file())
        for path in [*files, *self.values, *self.contents.values()]:
            digest.update(path.name.encode() + path.read_bytes())
        return f"inputs sha256:{digest.hexdigest()}"


def install(kubectl: Kubectl, release: Release) -> bool:
    """Install or upgrade `release`; False when it is already installed and unchanged."""
    forget_failed_jobs(kubectl, release)
    status = _status(kubectl, release)
    if status.get("status", "").startswith("pending-"):
        _remove_interrupted_revision(kubectl, release)
    elif (
        status.get("status") == "deployed"
        and status.get("description") == release.fingerprint()
        and _is_complete(kubectl, release)
    ):
        return False
    _helm(
        *("upgrade", "--install", *release.arguments()),
        *("--description", release.fingerprint()),
        kubectl=kubectl,
        stdin=json.dumps(release.settings),
    )
    return True


def render(release: Release) -> list[dict[str, Any]]:
    """Return the objects of a release, without a cluster; raises PlatformError for wrong values."""
    printed = _helm("template", *release.arguments(), stdin=json.dumps(release.settings))
    # Kubernetes reads numbers as this parser does: in YAML 1.1, 0440 is octal.
    return [each for each in yaml.load_all(printed, Loader=yaml.CSafeLoader) if each]


def installed(kubectl: Kubectl) -> list[dict[str, str]]:
    """Return Helm's list of releases: name, namespace, revision, status, chart, app_version."""
    releases: list[dict[str, str]] = json.loads(
        _helm("list", "--all-namespaces", "--output", "json", kubectl=kubectl)
    )
    return releases


def _status(kubectl: Kubectl, release: Release) -> dict[str, str]:
    """Return the newest revision's status and description, or an empty dict."""
    listed = json.loads(
        _helm(
            *("list", "--all-namespaces", "--output", "json", "--filter", f"^{release.name}$"),
            kubectl=kubectl,
        )
    )
    if not any(item["namespace"] == release.namespace for item in listed):
        return {}
    info: dict[str, str] = json.loads(
        _helm(
            *("status", release.name, "--namespace", release.namespace, "--output", "json"),
            kubectl=kubectl,
        )
    )["info"]
    return info


def _is_complete(kubectl: Kubectl, release: Release) -> bool:
    """Return whether every object in the cluster still matches the installed manifest."""
    manifest = _helm(
        *("get", "manifest", release.name, "--namespace", release.namespace), kubectl=kubectl
    )
    # If Helm's field manager were used, the annotations that Helm adds would be a difference.
    return kubectl.holds(manifest, manager="comparison")


def forget_failed_jobs(kubectl: Kubectl, release: Release) -> None:
    """Delete the release's Jobs that have failed for good, so that Helm creates them again.

    Jobs of a CronJob are kept, because the CronJob creates the next one by itself.
    """
    here = f"--namespace={release.namespace}"
    selector = f"--selector={names.selector(instance=release.name)}"
    for job in json.loads(kubectl(here, "get", "jobs", selector, "--output=json"))["items"]:
        conditions = job["status"].get("conditions", [])
        failed = any(each["type"] == "Failed" and each["status"] == "True" for each in conditions)
        if failed and not job["metadata"].get("ownerReferences"):
            kubectl(here, "delete", "job", job["metadata"]["name"])


def _remove_interrupted_revision(kubectl: Kubectl, release: Release) -> None:
    """Remove the record of an interrupted upgrade, which would block every later one."""
    pending = "status in (pending-install, pending-upgrade, pending-rollback)"
    kubectl(
        *("--namespace", release.namespace, "delete", "secret"),
        f"--selector=owner=helm,name={release.name},{pending}",
    )


def _helm(*arguments: str, kubectl: Kubectl | None = None, stdin: str | None = None) -> str:
    cluster = [f"--kubeconfig={kubectl.kubeconfig}"] if kubectl else []
    return run(
        [program("helm"), *cluster, *arguments],
        failure=f"helm {' '.join(arguments[:3])} failed",
        next_step="correct the values that the message names, then run the command again",
        stdin=stdin,
    )
