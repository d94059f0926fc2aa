"""A Kubernetes API server with etcd, on loopback: real objects and tokens, but no pods."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support import servers


@contextmanager
def control_plane(directory: Path, issuer: str) -> Iterator[Kubectl]:
    """Start etcd and the API server in `directory`; yield the administrator's kubectl.

    `issuer` is the URL of the issuer in the tokens of ServiceAccounts.
    """
    etcd_port, peer_port, port = servers.free_ports(3)
    etcd = f"http://127.0.0.1:{etcd_port}"
    peer = f"http://127.0.0.1:{peer_port}"
    with servers.running(
        directory / "etcd.log",
        etcd_port,
        *(tool("etcd"), f"--data-dir={directory / 'etcd'}", "--unsafe-no-fsync"),
        *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
        f"--initial-cluster=default={peer}",
    ):
        token = secrets.token_hex(16)
        (directory / "tokens").write_text(f"{token},administrator,administrator,system:masters\n")
        key = _key(directory / "service-accounts.key")
        with servers.running(
            directory / "kube-apiserver.log",
            port,
            *(tool("kube-apiserver"), f"--etcd-servers={etcd}", "--authorization-mode=RBAC"),
            *("--bind-address=127.0.0.1", f"--secure-port={port}"),
            *(f"--cert-dir={directory / 'certificates'}", "--endpoint-reconciler-type=none"),
            *(f"--token-auth-file={directory / 'tokens'}", f"--service-account-issuer={issuer}"),
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
            "--api-audiences=https://kubernetes.default.svc",
            # It needs the ServiceAccounts that a controller manager creates, and none runs here.
            "--disable-admission-plugins=ServiceAccount",
        ) as server:
            kubectl = Kubectl(_kubeconfig(directory, port, token))
            servers.wait_for(server, partial(_ready, kubectl), directory / "kube-apiserver.log")
            yield kubectl


@contextmanager
def controllers(kubectl: Kubectl, directory: Path, *names: str) -> Iterator[None]:
    """Run these controllers of the controller manager, and write its log to `directory`."""
    port = servers.free_ports(1)[0]
    with servers.running(
        directory / "kube-controller-manager.log",
        port,
        *(tool("kube-controller-manager"), f"--kubeconfig={kubectl.kubeconfig}"),
        *(f"--controllers={','.join(names)}", "--leader-elect=false"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}"),
        f"--cert-dir={directory / 'controller-certificates'}",
    ):
        yield


@contextmanager
def scheduler(kubectl: Kubectl, directory: Path) -> Iterator[None]:
    """Run the scheduler, and write its log to `directory`."""
    port = servers.free_ports(1)[0]
    with servers.running(
        directory / "kube-scheduler.log",
        port,
        *(tool("kube-scheduler"), f"--kubeconfig={kubectl.kubeconfig}", "--leader-elect=false"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}"),
        f"--cert-dir={directory / 'scheduler-certificates'}",
    ):
        yield


def _ready(kubectl: Kubectl) -> bool:
    try:
        kubectl("get", "--raw=/readyz")
    except PlatformError:
        return False
    return True


def _key(path: Path) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return path


def _kubeconfig(directory: Path, port: int, token: str) -> Path:
    """Write the administrator's kubeconfig, which trusts the server's self-signed certificate."""
    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority": str(directory / "certificates" / "apiserver.crt"),
    }
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "tests", "cluster": cluster}],
                "users": [{"name": "administrator", "user": {"token": token}}],
                "contexts": [
                    {"name": "tests", "context": {"cluster": "tests", "user": "administrator"}}
                ],
                "current-context": "tests",
            }
        )
    )
    return path
