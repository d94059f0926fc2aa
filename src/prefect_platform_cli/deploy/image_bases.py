"""The bases of the deployed images: a deploy records them in the cluster, the status reads them.

Kubernetes does not show the labels of images, so that the base cannot be read from a pod.
"""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kubernetes import client
from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError

from prefect_platform.errors import PlatformError
from prefect_platform_cli.doctor.components import base_job_templates
from prefect_platform_cli.host.paths import cache_directory
from prefect_platform_cli.images.base import LOCAL
from prefect_platform_cli.images.build import Image
from prefect_platform_cli.images.catalogue import REGISTRY
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl

OLD_AFTER = dt.timedelta(days=30)
"""The age at which a base is reported: Debian and Python have published fixes by then."""
_KEY = "bases.json"


class _Record(BaseModel):
    base: str
    created: AwareDatetime | None


_RECORDS = TypeAdapter(dict[str, _Record])


@dataclass(frozen=True)
class DeployedBase:
    """A base of deployed images; empty if no deploy has recorded it."""

    name: str
    created: dt.datetime | None
    images: Sequence[str]

    def describe(self, now: dt.datetime) -> str:
        """Return the age in days, the name and the images in one sentence."""
        images = ", ".join(self.images)
        if not self.name:
            return f"unknown for {images}: make deploy-cluster records it"
        if self.created is None:
            return f"of unknown age: {self.name}, of {images}"
        return f"{(now - self.created).days} days old: {self.name}, of {images}"

    def renewal(self, now: dt.datetime) -> str:
        """Return how to replace a base that is old, or empty text."""
        if self.created is None or now - self.created <= OLD_AFTER:
            return ""
        renew = (
            f"rm -r {cache_directory() / 'bases'}" if self.name.startswith(LOCAL) else "make base"
        )
        return (
            f"{self.name} is more than {OLD_AFTER.days} days old and lacks the fixes since then. "
            f"Run: {renew}, then make deploy-cluster"
        )


def record_bases(kubectl: Kubectl, images: Sequence[Image]) -> bool:
    """Write the bases of `images` to the cluster; True when that changed anything."""
    records = {
        image.reference: _Record(
            base=image.base.reference.partition("@")[0], created=image.base.created
        )
        for image in images
    }
    return kubectl.apply(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": names.IMAGE_BASES,
                    "namespace": names.SERVER_NAMESPACE,
                    "labels": names.PART_OF,
                },
                "data": {_KEY: _RECORDS.dump_json(records, indent=2).decode()},
            }
        )
    )


def deployed_bases(api: client.ApiClient) -> list[DeployedBase]:
    """Return the base of each of our images that a pod runs or that a work pool starts runs from.

    Images from a registry of yours are left out: their labels name their bases. Raises
    PlatformError if the record cannot be read.
    """
    core = client.CoreV1Api(api)
    recorded = _recorded(core)
    grouped: dict[tuple[str, dt.datetime | None], list[str]] = {}
    for image in sorted(set(_images(core))):
        record = recorded.get(image, _Record(base="", created=None))
        grouped.setdefault((record.base, record.created), []).append(image.rpartition("/")[2])
    return [DeployedBase(name, created, images) for (name, created), images in grouped.items()]


def _recorded(core: client.CoreV1Api) -> dict[str, _Record]:
    listed = core.list_namespaced_config_map(
        names.SERVER_NAMESPACE, field_selector=f"metadata.name={names.IMAGE_BASES}"
    ).items
    if not listed:
        return {}
    try:
        return _RECORDS.validate_json((listed[0].data or {}).get(_KEY, ""))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (_KEY, *first["loc"])))
        raise PlatformError(
            f"The ConfigMap {names.SERVER_NAMESPACE}/{names.IMAGE_BASES} was edited and cannot be "
            f"read: {where}: {first['msg']}",
            next_step="make deploy-cluster writes it anew",
        ) from error


def _images(core: client.CoreV1Api) -> Iterator[str]:
    used = [
        container.image
        for namespace in names.NAMESPACES
        for pod in core.list_namespaced_pod(namespace).items
        if pod.status.phase in {"Pending", "Running"}
        for container in (*(pod.spec.init_containers or ()), *pod.spec.containers)
    ]
    with suppress(PlatformError):  # the worker is not installed yet
        for template in base_job_templates(core).values():
            used.append(template["variables"]["properties"]["image"]["default"])
    yield from (image for image in used if image.startswith(f"{REGISTRY}/"))
