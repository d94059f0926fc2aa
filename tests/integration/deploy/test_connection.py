"""The address of the server is that of the release in the cluster: its scheme and its path."""

from pathlib import Path

import pytest
import yaml

from prefect_platform_cli.deploy.connection import server_url
from prefect_platform_cli.kube import names
from tests.support.control_plane import control_plane
from tests.support.rendering import STORIES, find, objects

_PREFIXED = STORIES["server-tls"].with_values({"publicUrl": "https://example.org/prefect"})


def test_the_url_of_a_server_with_tls_and_a_path_prefix_has_both(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder: Path = tmp_path_factory.mktemp("kubernetes")
    with control_plane(folder, "https://issuer") as kubectl:
        kubectl("create", "namespace", names.SERVER_NAMESPACE)
        before = server_url(kubectl, "example.org:4200")
        kubectl.apply(yaml.safe_dump(find(objects(_PREFIXED), "Deployment", "api")))

        assert before == "http://example.org:4200"
        assert server_url(kubectl, "example.org:4200") == "https://example.org:4200/prefect"
