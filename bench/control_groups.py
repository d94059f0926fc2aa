"""The processor time of a node's pods, as the control groups of this machine count it."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kubernetes.client import V1Pod

from prefect_platform_cli.cluster.engine.cgroups import hierarchies

_PODS = "kubepods"
_MIRRORED = "kubernetes.io/config.hash"


@dataclass(frozen=True)
class ControlGroups:
    """The control groups of a kind node on this machine."""

    pods: Path
    """The group of all pods. Its grandparent is the group of the node."""

    @classmethod
    def with_pod(cls, uid: str) -> "ControlGroups":
        """Return those of the node that runs a pod; LookupError if none of this machine does."""
        for hierarchy in hierarchies():
            for folder, names, _ in os.walk(hierarchy):
                groups = cls(Path(folder, _PODS))
                if _PODS in names and groups.of_pod(uid):
                    return groups
        raise LookupError(f"no control group of this machine counts the time of the pod {uid}")

    def of_pod(self, uid: str) -> float:
        """Return the CPU-seconds that a pod has used so far, 0 if it is gone."""
        return self.of_pods().get(uid, 0.0)

    def of_pods(self) -> dict[str, float]:
        """Return the CPU-seconds of each pod by its uid."""
        # Guaranteed pods have no group of their quality of service.
        groups = chain(self.pods.glob("pod*"), self.pods.glob("*/pod*"))
        return {each.name.removeprefix("pod"): _seconds(each) for each in groups}

    def of_all_pods(self) -> float:
        """Return the CPU-seconds of all pods, also of those that are gone."""
        return _seconds(self.pods)

    def of_system(self) -> float:
        """Return the CPU-seconds outside of pods: of the kubelet, containerd and its shims."""
        return _seconds(self.pods.parent.parent) - _seconds(self.pods)


def uid_of(pod: V1Pod) -> str:
    """Return the uid by which the kubelet names the control group of a pod."""
    # It gives the pods of the control plane another uid than the API server does.
    return str((pod.metadata.annotations or {}).get(_MIRRORED, pod.metadata.uid))


def _seconds(group: Path) -> float:
    """Return the CPU-seconds of a group, 0 if it is gone or its hierarchy does not count them."""
    try:
        if (usage := group / "cpuacct.usage").exists():
            return int(usage.read_text()) / 1e9
        counted = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        return int(counted["usage_usec"]) / 1e6
    except (OSError, KeyError):
        return 0.0
