"""Pods hold tokens for what they are and no auth string, unless run identity is off."""

import json

import pytest

from tests.render.job_pods import AUTH_STRING, created_job
from tests.support.rendering import STORIES, Object, Story, find, objects, pod_of

_SERVER, _WORKER = STORIES["server"], STORIES["worker"]
_SERVER_WITHOUT, _WORKER_WITHOUT = STORIES["server-auth-string"], STORIES["worker-auth-string"]


def _spec(job: Object) -> Object:
    spec: Object = job["spec"]["template"]["spec"]
    return spec


def _environment(job: Object) -> dict[str, Object]:
    return {each["name"]: each for each in _spec(job)["containers"][0]["env"]}


def _plugins(story: Story) -> list[str]:
    """Return the plugins of the worker, which passes Prefect's settings on to its Jobs."""
    worker = find(objects(story), "Deployment", "worker")["spec"]["template"]["spec"]
    variables = {each["name"]: each for each in worker["containers"][0]["env"]}
    allowed: str = variables["PREFECT_PLUGINS_ALLOW"]["value"]
    return allowed.split(",")


def test_a_job_has_a_token_for_its_own_run_and_no_auth_string() -> None:
    job = created_job(_WORKER)
    (volume,) = (each for each in _spec(job)["volumes"] if each["name"] == "pod-token")
    (mount,) = (
        each for each in _spec(job)["containers"][0]["volumeMounts"] if each["name"] == "pod-token"
    )
    (source,) = volume["projected"]["sources"]
    run = job["metadata"]["labels"]["prefect.io/flow-run-id"]

    token = source["serviceAccountToken"]
    assert token["audience"] == f"prefect-server.prefect/flow-runs/{run}"
    assert _environment(job)["POD_TOKEN_FILE"]["value"] == f"{mount['mountPath']}/{token['path']}"
    assert "pod-token" in _plugins(_WORKER)
    assert "PREFECT_API_AUTH_STRING" not in _environment(job)
    assert AUTH_STRING not in json.dumps(job)
    assert "prefect-auth" not in json.dumps(job)


def test_a_job_variable_does_not_bring_the_auth_string_back() -> None:
    job = created_job(_WORKER, env={"PREFECT_API_AUTH_STRING": "x"})
    assert _environment(job)["PREFECT_API_AUTH_STRING"]["value"] == "x"
    assert "prefect-auth" not in json.dumps(job)


def test_each_run_has_a_token_of_its_own() -> None:
    audiences = {
        job["metadata"]["labels"]["prefect.io/flow-run-id"]: [
            volume["projected"]["sources"][0]["serviceAccountToken"]["audience"]
            for volume in _spec(job)["volumes"]
            if "projected" in volume
        ]
        for job in (created_job(_WORKER, "default", name) for name in ("one", "another"))
    }
    assert len(audiences) == 2
    for run, (audience,) in audiences.items():
        assert audience.endswith(f"/{run}")


def test_the_accounts_of_a_pool_may_only_be_known_as_its_runs() -> None:
    rendered = objects(_WORKER)
    role = find(rendered, "ClusterRole", "flow-run", pool="default")
    binding = find(rendered, "ClusterRoleBinding", "flow-run", pool="default")
    account = find(rendered, "ServiceAccount", "flow-run", pool="default")["metadata"]

    assert role["rules"] == [
        {"nonResourceURLs": ["/prefect-server.prefect/work-pools/default"], "verbs": ["run"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


_PARTS = {
    # kind and component: path and verb of the right
    ("Deployment", "worker"): ("work-pools/default", "work"),
    ("CronJob", "reaper"): ("reaper", "use"),
    ("CronJob", "configuration"): ("configuration", "use"),
    ("Job", "configuration"): ("configuration", "use"),
    ("Pod", "release-test"): ("release-test", "use"),
}


@pytest.mark.parametrize(("kind", "component"), _PARTS)
def test_a_part_has_a_token_of_its_own_and_the_right_to_act_as_the_part(
    kind: str, component: str
) -> None:
    rendered = objects(STORIES["worker-configuration"])
    path, verb = _PARTS[kind, component]
    pod = pod_of(find(rendered, kind, component))
    assert pod is not None
    spec = pod["spec"]
    sources = [each["projected"]["sources"] for each in spec["volumes"] if "projected" in each]
    audiences = [each["serviceAccountToken"]["audience"] for (each,) in sources]
    rights = [
        rule
        for binding in rendered
        if binding["kind"] == "ClusterRoleBinding"
        and binding["subjects"]
        == [
            {
                "kind": "ServiceAccount",
                "name": spec["serviceAccountName"],
                "namespace": "prefect-workers",
            }
        ]
        for role in rendered
        if role["kind"] == "ClusterRole" and role["metadata"]["name"] == binding["roleRef"]["name"]
        for rule in role["rules"]
    ]

    assert audiences == [f"prefect-server.prefect/{path}"]
    assert rights == [{"nonResourceURLs": [f"/prefect-server.prefect/{path}"], "verbs": [verb]}]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert variables["POD_TOKEN_FILE"] == "/var/run/secrets/prefect/token"


def test_only_the_api_gets_the_passwords_of_workers_outside_the_cluster() -> None:
    values = {"auth.workers.edge": {"name": "worker-edge", "key": "password"}}
    rendered = objects(STORIES["server-ha"].with_values(values))
    holders = [item for item in rendered if "worker-edge" in json.dumps(item)]
    api = find(rendered, "Deployment", "api")
    spec = api["spec"]["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if "worker-edge" in json.dumps(each))
    (mount,) = (
        each for each in spec["containers"][0]["volumeMounts"] if each["name"] == volume["name"]
    )
    variables = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}

    assert holders == [api]
    assert volume["projected"]["sources"] == [
        {"secret": {"name": "worker-edge", "items": [{"key": "password", "path": "edge"}]}}
    ]
    assert variables["WORKER_PASSWORDS"] == mount["mountPath"]


def test_with_run_identity_nothing_reads_the_auth_string() -> None:
    assert "prefect-auth" not in json.dumps(objects(STORIES["worker-configuration"]))


def test_only_the_api_may_ask_kubernetes_about_tokens() -> None:
    rendered = objects(_SERVER)
    binding = find(rendered, "ClusterRoleBinding", "api")
    pod = find(rendered, "Deployment", "api")["spec"]["template"]["spec"]
    policy = find(rendered, "NetworkPolicy", "api")["spec"]
    holders = [
        item["metadata"]["name"] for item in rendered if "kubernetes-token" in json.dumps(item)
    ]

    assert binding["roleRef"]["name"] == "system:auth-delegator"
    assert [each["name"] for each in binding["subjects"]] == [pod["serviceAccountName"]]
    # Otherwise a rollback would leave the pods without their deleted account.
    assert pod["serviceAccount"] == pod["serviceAccountName"]
    assert holders == ["prefect-server"]
    assert "6443" in json.dumps(policy["egress"])


def test_without_run_identity_a_job_refers_to_the_auth_string_and_the_api_asks_nothing() -> None:
    job, rendered = created_job(_WORKER_WITHOUT), objects(_SERVER_WITHOUT)

    reference = _environment(job)["PREFECT_API_AUTH_STRING"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "prefect-auth", "key": "auth-string"}
    assert "serviceAccountToken" not in json.dumps(job)
    assert "pod-token" not in _plugins(_WORKER_WITHOUT)
    assert "system:auth-delegator" not in json.dumps(rendered)
    assert "6443" not in json.dumps(find(rendered, "NetworkPolicy", "api"))


def test_without_run_identity_every_part_reads_the_auth_string() -> None:
    rendered = objects(_WORKER_WITHOUT)
    readers = {item["kind"] for item in rendered if '"name": "prefect-auth"' in json.dumps(item)}

    assert readers >= {"CronJob", "Deployment", "Pod"}
    assert "serviceAccountToken" not in json.dumps(rendered)
    assert "nonResourceURLs" not in json.dumps(rendered)
