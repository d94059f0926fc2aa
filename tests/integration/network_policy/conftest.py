"""A network of Linux network namespaces, through which the tests send real packets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.network_policy.network import NODE, Network, network
from tests.support.requirements import require_packages, skip_without_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests, with the reason, where network namespaces cannot be created."""
    skip_without_root(items, Path(__file__).parent)


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    """Yield a node with the pods `client`, `other` and `server` in home, and `stranger` in away."""
    require_packages("nftables", "iproute2")
    pods = [
        _pod("server", "home", 10),
        _pod("client", "home", 11),
        _pod("other", "home", 12),
        _pod("stranger", "away", 13),
    ]
    with network(pods, {"home": {"kind": "home"}, "away": {"kind": "away"}}) as made:
        yield made


def _pod(name: str, namespace: str, number: int) -> dict[str, Any]:
    ports = [{"name": "web", "containerPort": 81 if name == "other" else 80}]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"name": name},
        },
        "spec": {"nodeName": NODE, "containers": [{"ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": f"198.18.1.{number}"}]},
    }
