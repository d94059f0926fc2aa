"""Test whether the cluster's network enforces NetworkPolicies."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until, wait_while
from prefect_platform_cli.doctor.isolation import REACHED
from prefect_platform_cli.doctor.probe_pods import PORT, probe_pods
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl

_NAME = "policy-probe"
_ENFORCED_WITHIN = 20  # seconds until a policy has to affect a running pod
COVERED = {"prefect-platform/covered": "true"}


def policy(namespace: str, peers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a NetworkPolicy that allows the covered pods traffic with `peers` and nothing else."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": _NAME, "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": COVERED},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers}] if peers else [],
            "egress": [{"to": peers}] if peers else [],
        },
    }


def enforces_policies(kubectl: Kubectl, namespace: str, image: str) -> bool:
    """Return whether a changed policy cuts off two pods that it first let reach each other.

    Removes the pods and the policy afterwards. Raises PlatformError when the pods do not start, or
    cannot reach each other although the policy allows it.
    """

    def remove_policy() -> None:
        named = ("networkpolicy", _NAME, "--ignore-not-found")
        kubectl(f"--namespace={namespace}", "delete", *named)

    remove_policy()  # left by a probe that was killed
    with probe_pods(kubectl, _NAME) as pods:
        client, server = (pods.start(namespace, image, COVERED) for _ in range(2))
        for pod in (client, server):
            pod.wait()

        def cut_off() -> str:
            (outcome,) = client.attempt([(server.address, PORT)])
            return "" if outcome == REACHED else outcome

        try:
            # The namespace may deny by default what this policy allows.
            kubectl.apply(
                json.dumps(policy(namespace, [{"podSelector": {"matchLabels": COVERED}}]))
            )
            problem = (
                client.problem or server.problem or wait_while(cut_off, _ENFORCED_WITHIN, every=1)
            )
            if problem:
                raise PlatformError(
                    f"NetworkPolicies cannot be tested with two pods in {namespace}: {problem}",
                    next_step=f"kubectl --namespace {namespace} get events",
                )
            kubectl.apply(json.dumps(policy(namespace, [])))
            return bool(wait_until(cut_off, _ENFORCED_WITHIN, every=1))
        finally:
            remove_policy()


@contextmanager
def enforcement_check(
    kubectl: Kubectl, image: str, *, accept_unenforced: bool
) -> Iterator[Callable[[], None]]:
    """Check the network with pods of `image` during the block; yield a function that waits for it.

    The function raises PlatformError when the network does not enforce NetworkPolicies, unless
    `accept_unenforced` is set. The probe pods are gone when the block ends.
    """
    with ThreadPoolExecutor(1) as executor:
        enforced = executor.submit(enforces_policies, kubectl, names.SERVER_NAMESPACE, image)

        def require() -> None:
            with step("Check that the network enforces NetworkPolicies") as current:
                if not enforced.result():
                    current.detail = refuse_unenforced(accept=accept_unenforced)

        yield require


def refuse_unenforced(*, accept: bool) -> str:
    """Explain what a network that does not enforce NetworkPolicies means, or refuse it.

    Raises PlatformError unless `accept`.
    """
    message = (
        "the cluster's network does not enforce NetworkPolicies, so every pod can connect to every "
        "other pod and to any address outside the cluster"
    )
    if not accept:
        raise PlatformError(
            message,
            next_step="install a network that does, such as Calico or Cilium, or accept the risk: "
            "make deploy-cluster UNENFORCED_POLICIES=accept",
        )
    return message
