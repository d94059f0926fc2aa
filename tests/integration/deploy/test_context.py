"""How a command reads the Secrets that a configuration refers to, from a fake API over HTTP."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.configuration.core.secret_values import resolve
from prefect_platform.configuration.core.source import Problem, read
from prefect_platform_cli.deploy.context import FromCluster
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.kubernetes_api import NAMESPACE, fake_kubernetes

VALUES = {"token": b"open-sesame\n", "keystore": b"\xff\xfe\x00"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FromCluster]:
    """Yield a cluster with the Secrets `held` and `other`."""
    monkeypatch.setattr(names, "WORKER_NAMESPACE", NAMESPACE)
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        data = {key: base64.b64encode(value).decode() for key, value in VALUES.items()}
        api.put("secrets", {"metadata": {"name": "held"}, "data": data})
        api.put("secrets", {"metadata": {"name": "other"}, "data": {"nothing": "eA=="}})
        yield FromCluster(Kubectl(api.kubeconfig))


def resolved(tmp_path: Path, cluster: FromCluster, key: str) -> str | Problem:
    """Resolve a reference to a key of the Secret `held`, which is in line 2 of a file."""
    path = tmp_path / "platform.yaml"
    path.write_text(f"blocks:\n  secret/a: {{secret: {{name: held, key: {key}}}}}\n")
    source = read(path)
    steps = ("blocks", "secret/a")
    return resolve(source.data["blocks"]["secret/a"], source, steps, cluster)


def test_a_secret_is_resolved_to_its_text_without_the_final_newline(
    tmp_path: Path, cluster: FromCluster
) -> None:
    assert resolved(tmp_path, cluster, "token") == "open-sesame"


def test_a_missing_key_is_reported_with_the_command_that_creates_it(
    tmp_path: Path, cluster: FromCluster
) -> None:
    assert str(resolved(tmp_path, cluster, "nothing")) == (
        f"{tmp_path}/platform.yaml:2: the Secret held does not exist, or has no key nothing; "
        f"kubectl --namespace {NAMESPACE} create secret generic held --from-file=KEY"
    )


def test_a_binary_secret_is_reported_with_the_line_number(
    tmp_path: Path, cluster: FromCluster
) -> None:
    problem = str(resolved(tmp_path, cluster, "keystore"))
    assert problem.startswith(
        f"{tmp_path}/platform.yaml:2: the key keystore of the Secret held is not UTF-8 text"
    )
    assert "base64" in problem
