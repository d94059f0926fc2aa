"""The objects of the Kubernetes API, reduced to what NetworkPolicies depend on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address
from typing import Any, Literal, NamedTuple

Direction = Literal["egress", "ingress"]
_FINISHED = ("Succeeded", "Failed")


class Port(NamedTuple):
    """A named port of a pod's container; the protocol as nftables writes it, such as tcp."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Pod:
    """A pod that has its own network and has not finished."""

    namespace: str
    name: str
    uid: str
    created: str
    node: str | None
    address: IPv4Address | None
    labels: Mapping[str, str]
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A NetworkPolicy; its rules are those of the API's `spec.egress` and `spec.ingress`."""

    namespace: str
    name: str
    selector: Mapping[str, Any]
    rules: Mapping[Direction, list[Mapping[str, Any]]]
    """The directions that the policy isolates, each with its rules for allowed traffic."""


@dataclass(frozen=True)
class Cluster:
    """All pods, namespaces (name to labels) and policies at one point in time."""

    pods: list[Pod] = field(default_factory=list)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    policies: list[Policy] = field(default_factory=list)


def pod(item: Mapping[str, Any]) -> Pod | None:
    """Return the API's pod, or None if policies do not apply: it finished or uses hostNetwork."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    if spec.get("hostNetwork") or status.get("phase") in _FINISHED:
        return None
    addresses = (ip_address(each["ip"]) for each in status.get("podIPs", ()))
    sidecars = (
        each for each in spec.get("initContainers", ()) if each.get("restartPolicy") == "Always"
    )
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata["creationTimestamp"],
        node=spec.get("nodeName"),
        address=next((each for each in addresses if isinstance(each, IPv4Address)), None),
        labels=metadata.get("labels", {}),
        ports=tuple(
            Port(each["name"], each.get("protocol", "TCP").lower(), each["containerPort"])
            for container in (*sidecars, *spec["containers"])
            for each in container.get("ports", ())
            if "name" in each
        ),
    )


def policy(item: Mapping[str, Any]) -> Policy:
    """Return the API's NetworkPolicy."""
    metadata, spec = item["metadata"], item.get("spec", {})
    # The API's defaults: always ingress, and egress if the policy has egress rules.
    default = ("Ingress", "Egress") if spec.get("egress") else ("Ingress",)
    types = spec.get("policyTypes") or default
    rules: dict[Direction, list[Mapping[str, Any]]] = {}
    if "Egress" in types:
        rules["egress"] = spec.get("egress") or []
    if "Ingress" in types:
        rules["ingress"] = spec.get("ingress") or []
    return Policy(metadata["namespace"], metadata["name"], spec.get("podSelector", {}), rules)


def owners(pods: Iterable[Pod], announced: Mapping[str, IPv4Address]) -> list[Pod]:
    """Return the pods that have an address; of several pods with one address, only the newest.

    `announced` has addresses by pod UID that are newer than those in the API.
    """
    by_address: dict[IPv4Address, Pod] = {}
    for each in sorted(pods, key=lambda pod: pod.created):
        address = announced.get(each.uid, each.address)
        if address is not None:
            by_address[address] = replace(each, address=address)
    return list(by_address.values())
