"""The interface of a cluster, whatever provides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prefect_platform_cli.cluster.image_store import ImageStore


@dataclass(frozen=True)
class ClusterStatus:
    """Whether the cluster runs; `facts` are pairs of label and value, in the order to print."""

    running: bool
    facts: Sequence[tuple[str, str]]


class ClusterProvider(Protocol):
    """A Kubernetes cluster that can be created, found again and removed."""

    @property
    def name(self) -> str:
        """The provider's name, as in CLUSTER=NAME."""

    def create(self) -> bool:
        """Create the cluster, or complete an earlier call's work; True when anything changed."""

    def delete(self) -> None:
        """Remove the cluster and everything that `create` made on this machine."""

    def load_images(self, archive: Path, references: Sequence[str]) -> bool:
        """Load the images of `archive` into every node; True when a node lacked one."""

    def image_stores(self) -> Sequence[ImageStore]:
        """Return the images of each running node; PlatformError if only a registry reaches them."""

    def kubeconfig(self) -> Path:
        """Return the kubeconfig file whose current context is the cluster."""

    def environment(self) -> dict[str, str]:
        """Return the variables that a user exports to reach the cluster with kubectl and docker."""

    def status(self) -> ClusterStatus:
        """Return the cluster's status without changing anything."""
