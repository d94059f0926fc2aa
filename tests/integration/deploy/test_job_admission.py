"""Kubernetes refuses Jobs that a pool's base job template could not produce.

The policies of the chart run in a real API server.
"""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.render.job_pods import created_job
from tests.render.kubernetes_schemas import SCHEMAS
from tests.support.control_plane import control_plane
from tests.support.rendering import HELM_CHARTS, STORIES, Object, objects

_VOLUME = {"name": "ours", "configMap": {"name": "our-authority"}}
_CHOSEN = {"name": "chosen", "persistentVolumeClaim": {"claimName": "{{ claim }}"}}
_CHANGED = STORIES["worker-local"].with_values(
    {
        "jobs.namespace": "changed",
        "jobs.allowedImages": ["registry.example.org:5000/team/", "example.org/flows"],
        "jobs.extraVolumes": [_VOLUME, _CHOSEN],
        "jobs.tmpSizeLimit": "2048Mi",
        "jobs.tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
        "jobs.affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
                    ]
                }
            }
        },
        "jobs.template": {
            "job_configuration": {
                "job_manifest": {
                    "spec": {
                        "template": {
                            "spec": {
                                "runtimeClassName": "{{ runtime_class }}",
                                "schedulerName": "{{ scheduler }}",
                            }
                        }
                    }
                }
            },
            "variables": {
                "properties": {
                    "runtime_class": {"type": "string"},
                    "scheduler": {"type": "string"},
                    "claim": {"type": "string", "default": "data"},
                }
            },
        },
    }
)
_AUTH_STRING = STORIES["worker-auth-string"].with_values({"jobs.namespace": "flows-auth-string"})
_TLS = STORIES["worker-tls"].with_values({"jobs.namespace": "flows-tls"})
_STORIES = {
    "flows-default": (STORIES["worker-local"], "default"),
    "flows-heavy": (STORIES["worker-production"], "heavy"),
    "flows-auth-string": (_AUTH_STRING, "default"),
    "flows-tls": (_TLS, "default"),
    "changed": (_CHANGED, "default"),
}
"""The namespaces of the API server, each with the chart's values and the pool of its policy."""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Start an API server with the namespaces and their policies in force."""
    with control_plane(tmp_path_factory.mktemp("kubernetes"), "https://issuer") as kubectl:
        for namespace, (story, pool) in _STORIES.items():
            policies = [
                {**each, "metadata": {**each["metadata"], "name": f"{namespace}-policy"}}
                for each in objects(story)
                if each["kind"].startswith("ValidatingAdmissionPolicy")
                and each["metadata"]["labels"]["prefect.io/work-pool-name"] == pool
            ]
            for each in policies:
                if each["kind"].endswith("Binding"):
                    each["spec"] = {**each["spec"], "policyName": f"{namespace}-policy"}
            kubectl.apply(yaml.safe_dump_all([*_namespace(namespace), *policies]))

        def in_force() -> bool:
            return all(
                refusal(kubectl, changed(namespace, lambda pod: pod.update(hostNetwork=True)))
                for namespace in _STORIES
            )

        assert wait_until(in_force, 60), "the API server does not apply the policies"
        yield kubectl


def _namespace(name: str) -> list[Object]:
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}]


def refusal(kubectl: Kubectl, job: Object) -> str:
    """Return the message with which the API server refuses a Job, empty if it accepts it."""
    # The worker, too, lets the server ignore the two fields that are none of a pod.
    create = ("create", "--dry-run=server", "--validate=false", "--filename=-")
    try:
        kubectl(*create, stdin=json.dumps(job))
    except PlatformError as error:
        return str(error)
    return ""


def changed(namespace: str, change: Callable[[Object], object]) -> Object:
    """Return a Job as the worker creates it in a namespace, after changing its pod."""
    story, pool = _STORIES[namespace]
    job = deepcopy(created_job(story, pool))
    change(job["spec"]["template"]["spec"])
    return job


@pytest.mark.parametrize("namespace", _STORIES)
def test_jobs_of_the_worker_are_accepted(kubectl: Kubectl, namespace: str) -> None:
    story, pool = _STORIES[namespace]
    variables: dict[str, Any] = {
        "env": {"TEAM": "a"},
        "labels": {"team": "a"},
        "annotations": {"example.org/a": "b"},
        "command": "python -m prefect.engine",
        "cpu_limit": "8",
        "active_deadline_seconds": 60,
    }
    assert refusal(kubectl, created_job(story, pool)) == ""
    assert refusal(kubectl, created_job(story, pool, **variables)) == ""


@pytest.mark.parametrize("name", ["---", "-" * 250, "✈" * 250, "a" * 250, "._" * 120], ids=len)
def test_a_run_of_any_name_has_a_job(kubectl: Kubectl, name: str) -> None:
    story, pool = _STORIES["flows-default"]

    assert refusal(kubectl, created_job(story, pool, name)) == ""


def test_fields_that_the_template_fills_from_job_variables_are_free(kubectl: Kubectl) -> None:
    job = created_job(_CHANGED, claim="of-the-run", scheduler="batch", runtime_class="gvisor")
    pod = job["spec"]["template"]["spec"]

    assert pod["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "of-the-run"
    assert (pod["schedulerName"], pod["runtimeClassName"]) == ("batch", "gvisor")
    assert refusal(kubectl, job) == ""


@pytest.mark.parametrize(
    "image",
    [
        "registry.example.org:5000/team/a/b:1",
        "example.org/flows",
        "example.org/flows:1",
        f"example.org/flows@sha256:{'0' * 64}",
    ],
)
def test_images_that_the_values_allow_are_accepted(kubectl: Kubectl, image: str) -> None:
    assert refusal(kubectl, created_job(_CHANGED, image=image, runtime_class="gvisor")) == ""


@pytest.mark.parametrize(
    "image",
    [
        "example.org/flows-of-others:1",
        "example.org/flows/of/others:1",
        "registry.example.org:5000/teams/a:1",
        "docker.io/library/busybox",
    ],
)
def test_other_images_are_refused(kubectl: Kubectl, image: str) -> None:
    assert "containers[0].image;" in refusal(kubectl, created_job(_CHANGED, image=image))


_POD: dict[str, dict[str, Any]] = {
    "serviceAccountName": {"serviceAccountName": "default"},
    "automountServiceAccountToken": {"automountServiceAccountToken": True},
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "hostAliases": {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}]},
    "nodeName": {"nodeName": "a-node"},
    "nodeSelector": {"nodeSelector": {"a": "b"}},
    "affinity": {"affinity": {"podAffinity": {}}},
    "tolerations": {"tolerations": [{"operator": "Exists"}]},
    "priorityClassName": {"priorityClassName": "system-cluster-critical"},
    "runtimeClassName": {"runtimeClassName": "other"},
    "schedulerName": {"schedulerName": "other"},
    "dnsPolicy": {"dnsPolicy": "Default"},
    "shareProcessNamespace": {"shareProcessNamespace": True},
    "securityContext": {"securityContext": {"runAsUser": 0}},
    "imagePullSecrets": {"imagePullSecrets": [{"name": "of-others"}]},
    "restartPolicy": {"restartPolicy": "OnFailure"},
}
_VOLUMES: dict[str, dict[str, Any]] = {
    "another Secret": {"secret": {"secretName": "of-others"}},
    "a path of the node": {"hostPath": {"path": "/"}},
    "a token": {
        "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}
    },
    "memory without a limit": {"emptyDir": {"medium": "Memory"}},
    "a claim": {"persistentVolumeClaim": {"claimName": "of-others"}},
}
_CONTAINER: dict[str, dict[str, Any]] = {
    "command": {"command": ["sh"]},
    "envFrom": {"envFrom": [{"secretRef": {"name": "of-others"}}]},
    "ports": {"ports": [{"containerPort": 80, "hostPort": 80}]},
    "securityContext": {"securityContext": {"runAsUser": 0}},
    "lifecycle": {"lifecycle": {"preStop": {"exec": {"command": ["a"]}}}},
}
_REFERENCES: dict[str, dict[str, Any]] = {
    "another Secret": {"secretKeyRef": {"name": "of-others", "key": "a"}},
    "another key": {"secretKeyRef": {"name": "prefect-auth", "key": "other"}},
    "a ConfigMap": {"configMapKeyRef": {"name": "of-others", "key": "a"}},
}


@pytest.mark.parametrize("field", _POD)
def test_a_pod_with_another_field_than_the_template_is_refused(
    kubectl: Kubectl, field: str
) -> None:
    job = changed("flows-default", lambda pod: pod.update(_POD[field]))
    assert f"spec.template.spec.{field};" in refusal(kubectl, job)


@pytest.mark.parametrize("field", _CONTAINER)
def test_a_container_with_another_field_than_the_template_is_refused(
    kubectl: Kubectl, field: str
) -> None:
    job = changed("flows-default", lambda pod: pod["containers"][0].update(_CONTAINER[field]))
    assert f"spec.template.spec.containers[0].{field};" in refusal(kubectl, job)


@pytest.mark.parametrize("volume", _VOLUMES)
def test_a_volume_that_the_template_does_not_have_is_refused(kubectl: Kubectl, volume: str) -> None:
    added = {"name": "added", **_VOLUMES[volume]}
    renamed = {**added, "name": "ours"}
    for job in (
        changed("flows-default", lambda pod: pod["volumes"].append(added)),
        changed("changed", lambda pod: pod["volumes"].__setitem__(2, renamed)),
    ):
        assert "spec.template.spec.volumes;" in refusal(kubectl, job)


@pytest.mark.parametrize("reference", _REFERENCES)
def test_an_environment_variable_from_another_object_is_refused(
    kubectl: Kubectl, reference: str
) -> None:
    variable = {"name": "PREFECT_API_AUTH_STRING", "valueFrom": _REFERENCES[reference]}
    job = changed("flows-default", lambda pod: pod["containers"][0].update(env=[variable]))
    assert "spec.template.spec.containers[0].env;" in refusal(kubectl, job)


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("activeDeadlineSeconds", None, "spec.activeDeadlineSeconds"),
        ("backoffLimit", 6, "spec.backoffLimit"),
        ("parallelism", 3, "spec.completions"),
        ("managedBy", "example.org/other", "spec.managedBy"),
    ],
)
def test_a_job_that_could_run_longer_or_more_often_is_refused(
    kubectl: Kubectl, field: str, value: object, path: str
) -> None:
    job = changed("flows-default", lambda _pod: None)
    job["spec"][field] = value
    assert f"{path};" in refusal(kubectl, job)


def test_every_refused_field_is_named_with_the_pool(kubectl: Kubectl) -> None:
    message = refusal(
        kubectl, changed("flows-heavy", lambda pod: pod.update(hostPID=True, nodeName="a"))
    )
    assert "the work pool heavy does not allow what the Job has in" in message
    assert "spec.template.spec.hostPID, spec.template.spec.nodeName;" in message


def test_a_second_container_is_refused(kubectl: Kubectl) -> None:
    second = {"name": "second", "image": "docker.io/library/busybox"}
    for key in ("containers", "initContainers"):
        job = changed("flows-default", lambda _pod: None)
        job["spec"]["template"]["spec"].setdefault(key, []).append(second)
        assert f"spec.template.spec.{key};" in refusal(kubectl, job)


@pytest.mark.parametrize("version", ["1.33", "1.34", "1.35", "1.36"])
@pytest.mark.parametrize(
    ("kind", "fields", "elsewhere"),
    [
        (
            "core.v1.PodSpec",
            "$ofPod",
            {
                *("containers", "volumes"),  # compared one by one
                *("serviceAccount", "terminationGracePeriodSeconds"),  # the same as another, free
            },
        ),
        (
            "core.v1.Container",
            "$ofContainer",
            {
                *("image", "env"),  # compared one by one
                *("args", "imagePullPolicy", "resources", "volumeMounts"),  # free
                *("terminationMessagePath", "terminationMessagePolicy"),  # free
            },
        ),
        (
            "batch.v1.JobSpec",
            "$ofJob",
            {
                *(
                    "activeDeadlineSeconds",
                    "completions",
                    "parallelism",
                    "template",
                    "manualSelector",
                ),
                *("completionMode", "podReplacementPolicy", "selector", "suspend"),  # defaults
                "ttlSecondsAfterFinished",  # free
            },
        ),
    ],
    ids=["pod", "container", "job"],
)
def test_every_field_of_each_kubernetes_release_is_known_to_the_policy(
    version: str, kind: str, fields: str, elsewhere: set[str]
) -> None:
    schema = json.loads((SCHEMAS / f"kubernetes-{version}.json").read_text())
    served = schema["definitions"][f"io.k8s.api.{kind}"]["properties"].keys()
    template = HELM_CHARTS / "prefect-worker/templates/jobs/validatingadmissionpolicy.yaml"
    (listed,) = re.findall(rf"{re.escape(fields)} := list (.*) -", template.read_text())
    assert served - set(re.findall(r'"(\w+)"', listed)) == elsewhere & served
