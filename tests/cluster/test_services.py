"""Services on our own node image keep working when kube-proxy restarts."""

import json

from prefect_platform_cli.cluster.engine.detection import choose_node_image
from tests.cluster.deployed import Platform, eventually, on_node
from tests.support.requirements import does_not_apply

_SYSTEM = "--namespace=kube-system"
_NEW = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "after-restart", "namespace": "kube-system"},
    "spec": {"selector": {"k8s-app": "kube-dns"}, "ports": [{"port": 53, "protocol": "TCP"}]},
}


def test_services_answer_after_restarts_of_kube_proxy(platform: Platform) -> None:
    if choose_node_image(None).source != "build":
        does_not_apply("kind's own node image has a kube-proxy of its own")
    # A new process must adopt the rules that the previous one has written. Two restarts are needed,
    # because rules that one new process loses are written again by the next one.
    for _ in range(2):
        platform.kubectl("delete", "pods", _SYSTEM, "--selector=k8s-app=kube-proxy")
        platform.kubectl("rollout", "status", _SYSTEM, "daemonset/kube-proxy", "--timeout=180s")
        _wait_for_its_rules(platform)

        api = _address(platform, "--namespace=default", "kubernetes")
        kubeconfig = "--kubeconfig=/etc/kubernetes/admin.conf"
        answer = on_node("kubectl", kubeconfig, f"--server=https://{api}", "get", "--raw=/version")
        assert "gitVersion" in answer


def _wait_for_its_rules(platform: Platform) -> None:
    """Wait until the new process has written rules: those of a Service that is newer than it."""
    platform.kubectl("create", "--filename=-", stdin=json.dumps(_NEW))
    try:
        new = _address(platform, _SYSTEM, "after-restart")
        eventually(
            "the new process has written its first rules",
            lambda: new in on_node("nft", "list", "map", "ip", "kube-proxy", "service-ips"),
        )
    finally:
        platform.kubectl("delete", _SYSTEM, "service", "after-restart")


def _address(platform: Platform, namespace: str, service: str) -> str:
    return platform.kubectl(
        "get", namespace, f"service/{service}", "--output=jsonpath={.spec.clusterIP}"
    )
