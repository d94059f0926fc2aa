"""Addresses for the networks of private engines, from the range reserved for tests (RFC 2544).

No host on a real network has such an address, so a mistake cannot affect one. The range
198.18.0.0/16 is divided among the engines; pods and Services use 198.19.0.0/16.
"""

import json
from collections.abc import Iterable
from hashlib import sha256
from ipaddress import IPv4Network

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.process import run

_RANGE = IPv4Network("198.18.0.0/16")
_PREFIX = 20


def choose_pool(cluster: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return a pool of 4,096 addresses for `cluster` that overlaps none of `taken`.

    A cluster always gets the same pool if that pool is free.
    """
    occupied = list(taken)
    pools = list(_RANGE.subnets(new_prefix=_PREFIX))
    first = int(sha256(cluster.encode()).hexdigest(), 16) % len(pools)
    for pool in pools[first:] + pools[:first]:
        if not any(pool.overlaps(network) for network in occupied):
            return pool
    raise PlatformError(
        f"no part of {_RANGE} is free for the cluster {cluster}",
        next_step="delete a cluster that is not needed; `ip route` shows what uses the addresses",
    )


def routed_networks() -> list[IPv4Network]:
    """Return the networks that the machine has routes to, except the default route."""
    routes = json.loads(
        run(
            ["ip", "-json", "-4", "route", "show", "table", "all"],
            failure="the machine's routes cannot be read",
            next_step="check that `ip route` works",
        )
    )
    return [IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
