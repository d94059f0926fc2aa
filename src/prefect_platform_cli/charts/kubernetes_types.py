"""What the values of both charts are made of."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from prefect_platform.values import NonEmpty, Values

# Kubernetes' own form, without exponents and signs: nothing here is negative.
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
_NAME = r"^([a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?)?$"
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class KubernetesObject(Values):
    """A mapping whose shape is Kubernetes' own: it is shown whole, without a comment a key."""


class LocalObjectReference(KubernetesObject):
    name: NonEmpty
    """Name of the object, in the namespace of the pod."""


class Global(Values):
    # A parent chart hands its own globals down.
    model_config = ConfigDict(extra="ignore")

    image_registry: Annotated[str, StringConstraints(pattern=r"^(\S*[^/\s])?$")] = ""
    """Registry of every image of this chart, with a path if it has one, in place of each image's
    own: a mirror, or a registry inside the company."""
    image_pull_secrets: list[LocalObjectReference] = []
    """Secrets of type kubernetes.io/dockerconfigjson, as `name: NAME`, in the namespace of the
    pods that pull."""


class Chart(Values):
    """What every chart has beside its own values."""

    name_override: Annotated[str, StringConstraints(pattern=_NAME)] = ""
    """In place of the chart's name in the names of its objects."""
    fullname_override: Annotated[str, StringConstraints(pattern=_NAME)] = ""
    """In place of the release's and the chart's name: what the names of all objects begin with."""
    common_labels: dict[str, str] = {}
    """Labels of every object, beside the chart's own, which they cannot change. Pods have them too,
    except those of databases and Jobs, which a new label must not replace."""
    common_annotations: dict[str, str] = {}
    """Annotations of every object; pods have podAnnotations."""


class Image(Values):
    registry: NonEmpty = "prefect-platform.local"
    """Registry, with a path if it has one."""
    repository: NonEmpty
    """Name in the registry."""
    tag: str = ""
    """A fixed tag, never `latest`. Required without a digest."""
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    """Digest of the image; given one, the tag is not looked at."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the node pulls the image."""


class SecretKey(Values):
    name: NonEmpty
    """Secret in the release's namespace."""
    key: NonEmpty
    """Its key."""


class EnvVar(KubernetesObject):
    name: NonEmpty
    """Name of the variable."""
    value: str | SkipJsonSchema[None] = None
    """Its value, in plain text."""
    value_from: dict[str, Any] | SkipJsonSchema[None] = None
    """Where its value is, such as `secretKeyRef`."""


class PolicyPort(KubernetesObject):
    port: int | NonEmpty
    """Number or name of the port."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """TCP, UDP or SCTP."""
    end_port: int | SkipJsonSchema[None] = None
    """Last port of a range that starts with `port`."""


class Peer(KubernetesObject):
    namespace_selector: dict[str, Any] | SkipJsonSchema[None] = None
    """Namespaces, by their labels."""
    pod_selector: dict[str, Any] | SkipJsonSchema[None] = None
    """Pods, by their labels."""
    ip_block: dict[str, Any] | SkipJsonSchema[None] = None
    """Addresses outside the cluster, as `cidr` and `except`."""


# Addresses that no private network, node, pod or cloud's metadata has (RFC 1918, 6598, 3927, 4193).
PUBLIC = [
    Peer(
        ip_block={
            "cidr": "0.0.0.0/0",
            "except": [
                "10.0.0.0/8",
                "100.64.0.0/10",
                "169.254.0.0/16",
                "172.16.0.0/12",
                "192.168.0.0/16",
            ],
        }
    ),
    Peer(ip_block={"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}),
]


class EgressRule(KubernetesObject):
    to: list[Peer] | SkipJsonSchema[None] = None
    """Whom pods may reach; everybody when left out."""
    ports: list[PolicyPort] | SkipJsonSchema[None] = None
    """At which ports; at all when left out."""


class Amounts(KubernetesObject):
    cpu: Quantity | SkipJsonSchema[None] = None
    """CPU, such as 500m."""
    memory: Quantity | SkipJsonSchema[None] = None
    """Memory, such as 512Mi."""


class Requests(KubernetesObject):
    cpu: Quantity
    """CPU that the scheduler sets aside, such as 500m."""
    memory: Quantity
    """Memory that the scheduler sets aside, such as 512Mi."""


class Resources(KubernetesObject):
    requests: Requests
    """Required: a pod without them starves, or starves others."""
    limits: Amounts = Amounts()
    """Above them a container is throttled (CPU) or killed (memory)."""


class Scheduling(Values):
    pod_annotations: dict[str, str] = {}
    """Annotations of the pods."""
    pod_labels: dict[str, str] = {}
    """Labels of the pods, beside the chart's own, which they cannot change."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that may run the pods."""
    tolerations: list[dict[str, Any]] = []
    """Taints that the pods tolerate: Kubernetes Toleration items."""
    affinity: dict[str, Any] = {}
    """Kubernetes Affinity of the pods."""
    priority_class_name: str = ""
    """PriorityClass of the pods: job pods should give way to all others. Empty: the cluster's
    default."""


class Extras(Scheduling):
    topology_spread_constraints: list[dict[str, Any]] = []
    """How the pods spread: Kubernetes TopologySpreadConstraint items."""
    extra_volumes: list[dict[str, Any]] = []
    """Further volumes of the pods: Kubernetes Volume items."""
    extra_volume_mounts: list[dict[str, Any]] = []
    """Where the main container mounts them: Kubernetes VolumeMount items."""
    extra_containers: list[dict[str, Any]] = []
    """Further containers of the pods: Kubernetes Container items."""


def namespaces(*names: str) -> Peer:
    """Return all pods of the named namespaces."""
    labels = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(names)}
    return Peer(namespace_selector={"matchExpressions": [labels]})


def resources(cpu: str, memory: str, *, memory_limit: str) -> Resources:
    """Return requests and a limit of memory; no limit of CPU, which would throttle."""
    return Resources(requests=Requests(cpu=cpu, memory=memory), limits=Amounts(memory=memory_limit))
