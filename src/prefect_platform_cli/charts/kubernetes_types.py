"""Types that the values of both charts have in common."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from prefect_platform.values import NonEmpty, Values

# A Kubernetes quantity without exponent and sign: no amount here is negative.
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
_NAME = r"^([a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?)?$"
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class KubernetesObject(Values):
    """A mapping in the form of the Kubernetes API, printed whole instead of key by key."""


class LocalObjectReference(KubernetesObject):
    name: NonEmpty
    """Name of the object. It has to be in the namespace of the pod."""


class Global(Values):
    # A parent chart passes its own globals on to its subcharts.
    model_config = ConfigDict(extra="ignore")

    image_registry: Annotated[str, StringConstraints(pattern=r"^(\S*[^/\s])?$")] = ""
    """Registry that all images of this chart are pulled from, with a path if it has one. If empty,
    each image uses its own `registry`. Set it to a mirror or to your company's registry."""
    image_digests: dict[str, Digest] = {}
    """Digests of the images, as `REPOSITORY: sha256:…`. An image that is listed here ignores its
    tag, and one that sets a `digest` of its own uses that instead. By default, images are selected
    by their own tag or digest. The images.yaml of an environment sets this value and
    `imageRegistry`; see docs/operations/registry.md."""
    image_pull_secrets: list[LocalObjectReference] = []
    """Secrets with the credentials of a private registry, each as `name: NAME`. They are of type
    kubernetes.io/dockerconfigjson and have to exist in every namespace whose pods pull images. By
    default images are pulled without credentials."""


class Chart(Values):
    """Values that every chart has in addition to its own."""

    name_override: Annotated[str, StringConstraints(pattern=_NAME)] = ""
    """Replaces the chart's name in the names of all objects. If empty, the chart's name is used."""
    fullname_override: Annotated[str, StringConstraints(pattern=_NAME)] = ""
    """Prefix of the names of all objects. If empty, the prefix is the release's name, followed by
    the chart's name unless the release's name contains it."""
    common_labels: dict[str, str] = {}
    """Labels added to every object. They cannot override the chart's own labels. Pods get them too,
    except the pods of databases and Jobs, which a new label would replace."""
    common_annotations: dict[str, str] = {}
    """Annotations added to every object except pods, which have `podAnnotations`."""


class Image(Values):
    registry: NonEmpty = "prefect-platform.local"
    """Registry that the image is pulled from, with a path if it has one. The default is the name of
    images that are built from this repository and loaded into the nodes; set your own registry if
    the nodes pull images. `global.imageRegistry` takes precedence."""
    repository: NonEmpty
    """Name of the image in the registry."""
    tag: NonEmpty
    """Tag of the image. The tag `latest` is refused."""
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    """Digest of the image, as `sha256:` and 64 hexadecimal digits. If set, the tag is ignored. It
    takes precedence over `global.imageDigests`."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the node pulls the image: IfNotPresent (if it does not have it), Always (each time a pod
    starts) or Never (the image has to be on the node)."""


class PlatformImage(Image):
    tag: str = ""
    """Tag of the image. If empty, it is the chart's appVersion, the version of Prefect. No image of
    `make image` has this tag: push yours under it, or set the tag that `make image` prints. The tag
    `latest` is refused, and the profile `production` refuses every tag without a digest."""


class SecretKey(Values):
    name: NonEmpty
    """Name of the Secret, which has to exist in the release's namespace."""
    key: NonEmpty
    """Key of the Secret that holds the password."""


class RunIdentity(Values):
    enabled: bool = True
    """Use run identity; see docs/operations/run-identity.md."""
    audience: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] = (
        "prefect-server.prefect"
    )
    """Name of the server in the tokens. Each server of a cluster needs a name of its own.
    The default is that of a release named prefect-server in the namespace prefect."""


class EnvVar(KubernetesObject):
    name: NonEmpty
    """Name of the variable."""
    value: str | SkipJsonSchema[None] = None
    """Value of the variable, in plain text."""
    value_from: dict[str, Any] | SkipJsonSchema[None] = None
    """Source of the value, such as `secretKeyRef`."""


class PolicyPort(KubernetesObject):
    port: int | NonEmpty
    """Number or name of the port."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """Protocol of the port: TCP, UDP or SCTP."""
    end_port: int | SkipJsonSchema[None] = None
    """Last port of a range that starts at `port`."""


class Peer(KubernetesObject):
    namespace_selector: dict[str, Any] | SkipJsonSchema[None] = None
    """Selects namespaces by their labels."""
    pod_selector: dict[str, Any] | SkipJsonSchema[None] = None
    """Selects pods by their labels."""
    ip_block: dict[str, Any] | SkipJsonSchema[None] = None
    """Selects addresses outside the cluster, with `cidr` and `except`."""


# Public addresses: none of IANA's special-purpose registries, and none of a cloud's platform
# (https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry,
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
PUBLIC = [
    Peer(
        ip_block={
            "cidr": "0.0.0.0/0",
            "except": [
                "0.0.0.0/8",  # this network
                "10.0.0.0/8",  # private
                "100.64.0.0/10",  # shared with carriers; pods, and the metadata of Alibaba Cloud
                "127.0.0.0/8",  # loopback
                "168.63.129.16/32",  # Azure's platform, on every virtual machine
                "169.254.0.0/16",  # link-local: the metadata of most clouds
                "172.16.0.0/12",  # private
                "192.0.0.0/24",  # protocol assignments; the metadata of Oracle Cloud
                "192.0.2.0/24",  # documentation
                "192.88.99.0/24",  # relays of 6to4
                "192.168.0.0/16",  # private
                "198.18.0.0/15",  # benchmarks
                "198.51.100.0/24",  # documentation
                "203.0.113.0/24",  # documentation
                "224.0.0.0/4",  # multicast
                "240.0.0.0/4",  # reserved, and broadcast
            ],
        }
    ),
    # IANA has assigned public addresses from this block alone. Outside of it are unique local
    # addresses (the metadata of AWS, fd00:ec2::254), link-local ones, multicast, and those that
    # contain an IPv4 address: mapped (::ffff:0:0/96) and of NAT64 (64:ff9b::/96, 64:ff9b:1::/48).
    Peer(
        ip_block={
            "cidr": "2000::/3",
            "except": [
                "2001::/23",  # protocol assignments, such as Teredo
                "2001:db8::/32",  # documentation
                "2002::/16",  # 6to4, which contains an IPv4 address
                "3fff::/20",  # documentation
            ],
        }
    ),
]


class EgressRule(KubernetesObject):
    to: list[Peer] | SkipJsonSchema[None] = None
    """Destinations that pods may connect to. If left out, every destination is allowed."""
    ports: list[PolicyPort] | SkipJsonSchema[None] = None
    """Ports that pods may connect to. If left out, every port is allowed."""


class Amounts(KubernetesObject):
    cpu: Quantity | SkipJsonSchema[None] = None
    """Amount of CPU, such as 500m."""
    memory: Quantity | SkipJsonSchema[None] = None
    """Amount of memory, such as 512Mi."""


class Requests(KubernetesObject):
    cpu: Quantity
    """CPU that the scheduler reserves for the container, such as 500m."""
    memory: Quantity
    """Memory that the scheduler reserves for the container, such as 512Mi."""


class Resources(KubernetesObject):
    requests: Requests
    """Resources that the scheduler reserves. They are required: without them a pod can be starved
    of CPU and memory, or can starve others."""
    limits: Amounts = Amounts()
    """Upper limits. A container is throttled above its CPU limit and killed above its memory
    limit."""


class Scheduling(Values):
    pod_annotations: dict[str, str] = {}
    """Annotations added to the pods."""
    pod_labels: dict[str, str] = {}
    """Labels added to the pods. They cannot override the chart's own labels."""
    node_selector: dict[str, str] = {}
    """Labels that a node needs to run the pods. By default any node may run them."""
    tolerations: list[dict[str, Any]] = []
    """Taints that the pods tolerate, as a list of Kubernetes Tolerations. By default there are
    none."""
    affinity: dict[str, Any] = {}
    """Affinity rules of the pods, as a Kubernetes Affinity object. By default there are none."""
    priority_class_name: str = ""
    """PriorityClass of the pods. If empty, the cluster's default applies. Give job pods a lower
    priority than all others, so that they yield when a node is full."""


class Extras(Scheduling):
    topology_spread_constraints: list[dict[str, Any]] = []
    """How the pods are spread over nodes and zones, as a list of Kubernetes
    TopologySpreadConstraints. If empty, the chart prefect-server spreads its pods where possible in
    mode `ha`; otherwise the placement is left to the scheduler."""
    extra_volumes: list[dict[str, Any]] = []
    """Volumes added to the pods, as a list of Kubernetes Volumes."""
    extra_volume_mounts: list[dict[str, Any]] = []
    """Volume mounts added to the main container, as a list of Kubernetes VolumeMounts."""
    extra_containers: list[dict[str, Any]] = []
    """Containers added to the pods, as a list of Kubernetes Containers."""


def namespaces(*names: str) -> Peer:
    """Return a peer that selects all pods of the named namespaces."""
    labels = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(names)}
    return Peer(namespace_selector={"matchExpressions": [labels]})


def resources(cpu: str, memory: str, *, memory_limit: str) -> Resources:
    """Return requests and a memory limit; a CPU limit would throttle the container."""
    return Resources(requests=Requests(cpu=cpu, memory=memory), limits=Amounts(memory=memory_limit))
