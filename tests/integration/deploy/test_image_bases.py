"""The status shows the base of every deployed image, as the deploy recorded it.

The record is in a real API server.
"""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.image_bases import (
    OLD_AFTER,
    DeployedBase,
    deployed_bases,
    record_bases,
)
from prefect_platform_cli.images.base import Base
from prefect_platform_cli.images.build import Image
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.control_plane import control_plane
from tests.support.rendering import STORIES, objects

CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
PULLED = Base(
    f"docker.io/library/python:3.11@sha256:{'0' * 64}", "first", "it answers", created=CREATED
)
MADE = Base("prefect-platform.local/base:0123", "second", "no registry", created=CREATED)
FLOWS = "prefect-platform.local/flows:0123456789ab"
POSTGRES = "prefect-platform.local/postgres:0123456789ab"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Start an API server with the platform's namespaces."""
    with control_plane(tmp_path_factory.mktemp("kubernetes"), "https://issuer") as kubectl:
        for name in names.NAMESPACES:
            kubectl("create", "namespace", name)
        yield kubectl


def image(reference: str, base: Base) -> Image:
    name = reference.rpartition("/")[2]
    return Image(name, reference, Path("images.tar"), base, Path(f"{name}.spdx.json"))


def run_pod(kubectl: Kubectl, name: str, reference: str) -> None:
    """Create a pod, which stays pending because there is no node."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": names.DATA_NAMESPACE},
        "spec": {"containers": [{"name": "main", "image": reference}]},
    }
    kubectl("create", "--filename=-", stdin=json.dumps(pod))


def test_the_record_of_a_deploy_is_changed_only_by_other_images(kubectl: Kubectl) -> None:
    assert record_bases(kubectl, [image(FLOWS, PULLED)])
    assert not record_bases(kubectl, [image(FLOWS, PULLED)])
    assert record_bases(kubectl, [image(FLOWS, MADE)])


def test_images_of_pods_and_work_pools_are_shown_by_their_base(kubectl: Kubectl) -> None:
    api = kubectl.api()
    unused = image("prefect-platform.local/redis:0123456789ab", PULLED)
    record_bases(kubectl, [image(FLOWS, PULLED), image(POSTGRES, PULLED), unused])
    run_pod(kubectl, "postgres", POSTGRES)
    run_pod(kubectl, "by-hand", "prefect-platform.local/seaweedfs:of-another-day")
    run_pod(kubectl, "of-others", "registry.example.org/others:1")
    without_pool = deployed_bases(api)
    templates = [
        each
        for each in objects(STORIES["worker-local"])
        if each["metadata"]["name"] == names.BASE_JOB_TEMPLATES
    ]
    kubectl.apply(yaml.safe_dump_all(templates))
    recorded = ("docker.io/library/python:3.11", CREATED)

    assert without_pool == [
        DeployedBase(*recorded, ["postgres:0123456789ab"]),
        DeployedBase("", None, ["seaweedfs:of-another-day"]),
    ]
    assert deployed_bases(api) == [
        DeployedBase(*recorded, ["flows:0123456789ab", "postgres:0123456789ab"]),
        DeployedBase("", None, ["seaweedfs:of-another-day"]),
    ]


@pytest.mark.parametrize("data", [{}, {"bases.json": "{"}, {"bases.json": '{"flows": 1}'}])
def test_a_record_that_was_edited_is_named_with_the_command_that_writes_it(
    kubectl: Kubectl, data: dict[str, str]
) -> None:
    metadata = {"name": names.IMAGE_BASES, "namespace": names.SERVER_NAMESPACE}
    edited = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    record_bases(kubectl, [image(FLOWS, MADE)])
    kubectl("replace", "--filename=-", stdin=json.dumps(edited))

    with pytest.raises(PlatformError, match="ConfigMap prefect/prefect-image-bases") as refused:
        deployed_bases(kubectl.api())
    assert "make deploy-cluster" in refused.value.next_step
    assert record_bases(kubectl, [image(FLOWS, PULLED)])
    deployed_bases(kubectl.api())


def test_the_age_of_a_base_is_shown_in_days() -> None:
    base = DeployedBase("docker.io/library/python:3.11", CREATED, ["flows:1", "redis:2"])
    shown = base.describe(CREATED + dt.timedelta(days=3, hours=23))
    assert shown == "3 days old: docker.io/library/python:3.11, of flows:1, redis:2"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "unknown for flows:1: make deploy-cluster records it"),
        ("a.example/b:1", "of unknown age: a.example/b:1, of flows:1"),
    ],
)
def test_a_base_of_unknown_age_is_shown_as_that(name: str, shown: str) -> None:
    base = DeployedBase(name, None, ["flows:1"])
    assert base.describe(CREATED) == shown
    assert base.renewal(CREATED) == ""


@pytest.mark.parametrize(
    ("name", "renew"),
    [
        ("docker.io/library/python:3.11", "Run: make base, then make deploy-cluster"),
        ("prefect-platform.local/base:0123", "/bases, then make deploy-cluster"),
    ],
)
def test_an_old_base_is_reported_with_the_command_that_renews_it(name: str, renew: str) -> None:
    base = DeployedBase(name, CREATED, ["flows:1"])
    old = base.renewal(CREATED + OLD_AFTER + dt.timedelta(seconds=1))
    assert base.renewal(CREATED + OLD_AFTER) == ""
    assert f"{name} is more than 30 days old" in old
    assert old.endswith(renew)
