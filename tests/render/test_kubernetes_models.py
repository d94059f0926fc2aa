"""Kubernetes knows every field that we render."""

import copy
from typing import Any

import pytest

from tests.render.job_pods import created_job
from tests.render.kubernetes_models import check
from tests.render.rendering import STORIES, all_objects, find, objects

# Custom resources: Kubernetes' own models do not know them.
CUSTOM_GROUPS = {"postgresql.cnpg.io", "gateway.networking.k8s.io"}


def test_every_rendered_object_is_one_of_kubernetes() -> None:
    for items in all_objects().values():
        for item in items:
            if item["apiVersion"].partition("/")[0] not in CUSTOM_GROUPS:
                check(item)


def test_the_job_of_a_run_is_one_of_kubernetes() -> None:
    job = copy.deepcopy(created_job(STORIES["worker-local"]))
    job["metadata"]["name"] = "named-by-the-server"
    # The worker insists on these two in the wrong place; the server drops them.
    for field in ("parallelism", "completions"):
        assert job["spec"]["template"]["spec"].pop(field) == 1
    check(job)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (["spec", "replica"], 1, "V1DeploymentSpec has no replica"),
        (["spec", "replicas"], "1", "int is needed"),
        (["spec", "template", "spec", "containers", 0, "name"], None, "str is needed"),
        (["spec", "selector"], {"matchLabels": {"a": 1}}, "str is needed"),
    ],
)
def test_a_wrong_field_is_found(path: list[str | int], value: object, complaint: str) -> None:
    deployment = copy.deepcopy(find(objects(STORIES["server"]), "Deployment", "api"))
    *parents, last = path
    target: Any = deployment
    for step in parents:
        target = target[step]
    target[last] = value
    with pytest.raises(AssertionError, match=complaint):
        check(deployment)
