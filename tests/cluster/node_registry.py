"""A registry at the same address of this machine and of the node of a kind cluster."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_platform_cli.cluster.engine.detection import recorded_engine
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.servers import free_ports

_NAME = "registry-of-tests"
_PROGRAM = f"/opt/{_NAME}"  # on the node
# Any image of the node will do, because the registry is a static program.
_IMAGE = (
    *("--namespace=kube-system", "get", "deployment", "coredns"),
    "--output=jsonpath={.spec.template.spec.containers[0].image}",
)


@contextmanager
def node_registry(cluster: str, kubectl: Kubectl) -> Iterator[str]:
    """Run a registry in a cluster with one node, and yield its host and port."""
    (port,) = free_ports(1)
    engine = recorded_engine(cluster)
    assert engine is not None
    run(
        [engine.docker, "cp", tool("registry"), f"{cluster}-control-plane:{_PROGRAM}"],
        failure="the registry cannot be copied to the node",
        next_step="look at the events of the report",
        env=engine.environment(),
    )
    kubectl("create", "namespace", _NAME)
    try:
        objects = {"apiVersion": "v1", "kind": "List", "items": _objects(kubectl(*_IMAGE), port)}
        kubectl.apply(json.dumps(objects))
        here = f"--namespace={_NAME}"
        kubectl(here, "wait", f"pod/{_NAME}", "--for=condition=Ready", "--timeout=120s")
        with kubectl.port_forward(f"pod/{_NAME}", port, namespace=_NAME, local_port=port):
            yield f"127.0.0.1:{port}"
    finally:
        kubectl("delete", "namespace", _NAME, "--wait=false")


def _objects(image: str, port: int) -> list[dict[str, object]]:
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/images"}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    container = {
        "name": _NAME,
        "image": image,
        "command": ["/registry", "serve", "/etc/registry/configuration.yml"],
        "readinessProbe": {
            "httpGet": {"host": "127.0.0.1", "port": port, "path": "/v2/"},
            "periodSeconds": 1,
        },
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [
            {"name": "program", "mountPath": "/registry"},
            {"name": "configuration", "mountPath": "/etc/registry"},
            {"name": "images", "mountPath": "/images"},
        ],
    }
    volumes = [
        {"name": "program", "hostPath": {"path": _PROGRAM, "type": "File"}},
        {"name": "configuration", "configMap": {"name": _NAME}},
        {"name": "images", "emptyDir": {}},
    ]
    metadata = {"name": _NAME, "namespace": _NAME}
    return [
        {
            **{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata},
            "data": {"configuration.yml": json.dumps(configuration)},
        },
        {
            **{"apiVersion": "v1", "kind": "Pod", "metadata": metadata},
            "spec": {"hostNetwork": True, "containers": [container], "volumes": volumes},
        },
    ]
