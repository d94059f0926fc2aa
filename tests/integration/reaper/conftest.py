"""One Prefect server for this folder, and a work pool and a fake Kubernetes for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.reaper.reaped_pool import ReapedPool
from tests.support.kubernetes_api import KubernetesApi, fake_kubernetes
from tests.support.servers import prefect_server


@pytest.fixture(scope="session")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesApi]:
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        yield api


@pytest.fixture
def reaped(api_url: str, kubernetes: KubernetesApi) -> ReapedPool:
    return ReapedPool.create(api_url, kubernetes)
