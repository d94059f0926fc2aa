"""The agent of our own node image that enforces NetworkPolicies, and a way to remove it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_platform_cli.kube.kubectl import Kubectl

_SYSTEM, _AGENT = "--namespace=kube-system", "daemonset.apps/network-policy"


@contextmanager
def without_agent(kubectl: Kubectl) -> Iterator[None]:
    """Remove the agent from every node, and restore it at the end of the block."""

    def select(value: str | None) -> None:
        patch = {"spec": {"template": {"spec": {"nodeSelector": {"no-such-label": value}}}}}
        kubectl(_SYSTEM, "patch", _AGENT, f"--patch={json.dumps(patch)}")

    try:
        select("")
        pods = "--selector=app.kubernetes.io/name=network-policy"
        kubectl(_SYSTEM, "wait", "pod", pods, "--for=delete", "--timeout=120s")
        yield
    finally:
        select(None)
        kubectl(_SYSTEM, "rollout", "status", _AGENT, "--timeout=120s")
