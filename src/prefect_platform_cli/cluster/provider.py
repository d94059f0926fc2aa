"""What the platform needs of a cluster, whoever provides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ClusterStatus:
    """Whether the cluster is there: `facts` are label and value pairs, in the order to show."""

    running: bool
    facts: Sequence[tuple[str, str]]


class ClusterProvider(Protocol):
    """A Kubernetes cluster that can be made, found again and removed."""

    @property
    def name(self) -> str:
        """The provider's word in CLUSTER=..."""

    def create(self) -> bool:
        """Bring the cluster up, complete what an earlier call left; True when anything changed."""

    def delete(self) -> None:
        """Remove the cluster and all that `create` made on this machine."""

    def load_images(self, archive: Path, references: Sequence[str]) -> bool:
        """Make every node hold the images of `archive`; True when a node lacked one."""

    def kubeconfig(self) -> Path:
        """Return the kubeconfig file whose current context is the cluster."""

    def environment(self) -> dict[str, str]:
        """Return what a user exports to reach the cluster with kubectl and docker."""

    def status(self) -> ClusterStatus:
        """Return what is known of the cluster without changing anything."""
