"""Each work pool has its own worker, permissions, namespace and limits."""

from collections.abc import Iterator

import pytest
from prefect.logging.configuration import DEFAULT_LOGGING_SETTINGS_PATH, load_logging_config

from tests.render.job_pods import base_job_template, created_job
from tests.support.rendering import STORIES, Object, Story, find, objects

WORKER = STORIES["worker"]
POOLS = STORIES["worker-pools"]
_POOL_LABEL = "prefect.io/work-pool-name"
_PER_POOL = {
    *("ClusterRole", "ClusterRoleBinding"),
    *("Deployment", "LimitRange", "Namespace", "NetworkPolicy", "Pod", "PodDisruptionBudget"),
    *("ResourceQuota", "Role", "RoleBinding", "ServiceAccount"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}


def owned(rendered: list[Object], pool: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind, namespace and name of each object with the label of a pool."""
    for item in rendered:
        metadata = item["metadata"]
        if metadata["labels"].get(_POOL_LABEL) == pool:
            yield item["kind"], metadata.get("namespace", ""), metadata["name"]


def test_two_pools_have_objects_of_the_same_kinds_and_share_none() -> None:
    rendered = objects(POOLS)
    default, etl = (set(owned(rendered, pool)) for pool in ("default", "etl"))

    assert sorted(kind for kind, _, _ in default) == sorted(kind for kind, _, _ in etl)
    assert {kind for kind, _, _ in default} == _PER_POOL
    assert default.isdisjoint(etl)
    assert {namespace for _, namespace, _ in default} == {"", "prefect-workers", "flows-default"}
    assert {namespace for _, namespace, _ in etl} == {"", "prefect-workers", "flows-etl"}
    shared = [item for item in rendered if _POOL_LABEL not in item["metadata"]["labels"]]
    assert {item["kind"] for item in shared} == {
        *("ClusterRole", "ClusterRoleBinding", "ConfigMap", "CronJob", "NetworkPolicy"),
        *("PriorityClass", "ServiceAccount"),
    }


@pytest.mark.parametrize("pool", ["default", "etl"])
def test_a_worker_has_permissions_only_where_its_own_jobs_run(pool: str) -> None:
    rendered = objects(POOLS)
    worker = find(rendered, "Deployment", "worker", pool=pool)["spec"]["template"]["spec"]
    bound = [
        binding
        for binding in rendered
        if binding["kind"] == "RoleBinding"
        and [subject["name"] for subject in binding["subjects"]] == [worker["serviceAccountName"]]
    ]
    (observed,) = [
        variable["value"]
        for variable in worker["containers"][0]["env"]
        if variable["name"] == "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"
    ]
    job = created_job(POOLS, pool)

    (binding,) = bound
    assert binding["metadata"]["namespace"] == observed == job["metadata"]["namespace"]
    assert observed == f"flows-{pool}"
    assert f"--pool={pool}" in worker["containers"][0]["args"]
    assert worker["initContainers"][0]["args"][-1] == pool


def test_values_of_a_pool_override_the_shared_values() -> None:
    rendered = objects(POOLS)
    images = {
        pool: created_job(POOLS, pool)["spec"]["template"]["spec"]["containers"][0]["image"]
        for pool in ("default", "etl")
    }
    limited = {
        pool: "--limit=3"
        in find(rendered, "Deployment", "worker", pool=pool)["spec"]["template"]["spec"][
            "containers"
        ][0]["args"]
        for pool in ("default", "etl")
    }

    assert images == {
        "default": "prefect-platform.local/flows:0123456789ab",
        "etl": "prefect-platform.local/flows:ba9876543210",
    }
    assert limited == {"default": False, "etl": True}


def test_pool_values_merge_maps_replace_lists_and_remove_null_keys() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}
    own = {
        "jobs": {
            "quota": {"pods": None, "requests.cpu": "9"},
            "env": [{"name": "TEAM", "value": "etl"}],
            "activeDeadlineSeconds": 31536000,
            "heartbeatSeconds": 60,
        },
        "networkPolicies": {"jobsEgress": [rule]},
    }
    story = WORKER.with_values(
        {
            "pools.etl": own,
            "retention.unfinishedRuns": "400d",
            "retention.objects.results": "500d",
            "jobs.env": [{"name": "TEAM", "value": "all"}, {"name": "ZONE", "value": "a"}],
        }
    )
    rendered = objects(story)
    quota = {
        pool: find(rendered, "ResourceQuota", "flow-run", pool=pool)["spec"]["hard"]
        for pool in ("default", "etl")
    }
    egress = {
        pool: find(rendered, "NetworkPolicy", "flow-run", pool=pool)["spec"]["egress"]
        for pool in ("default", "etl")
    }
    environment = base_job_template(story, "etl")["variables"]["properties"]["env"]["default"]

    none = {"services.loadbalancers": "0", "services.nodeports": "0"}
    assert quota == {"default": {"pods": "200", **none}, "etl": {"requests.cpu": "9", **none}}
    assert rule in egress["etl"]
    assert rule not in egress["default"]
    assert environment == {
        "DO_NOT_TRACK": "1",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",
        "RESULT_WRITE_SECONDS": "120",
        "TEAM": "etl",
    }
    assert created_job(story, "etl")["spec"]["activeDeadlineSeconds"] == 31536000


def test_a_release_serves_only_the_pools_in_its_values() -> None:
    rendered = objects(WORKER.with_values({"pools": {"default": None, "etl": {}}}))

    assert list(owned(rendered, "default")) == []
    assert list(find(rendered, "ConfigMap", "work-pool")["data"]) == ["etl.json"]


def test_long_pool_names_give_short_and_unique_object_names() -> None:
    pools = [f"{'a' * 56}{last}" for last in "bc"]
    rendered = objects(WORKER.with_values({f"pools.{pool}": {} for pool in pools}))
    names = [
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        for item in rendered
    ]

    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, _, name in names)
    assert len({name for kind, _, name in names if kind == "Deployment"}) == 3


def test_the_namespace_of_job_pods_is_restricted_and_outlives_the_release() -> None:
    assert not any(item["kind"] == "Namespace" for item in objects(WORKER))
    namespace = find(objects(POOLS), "Namespace", "flow-run", pool="etl")["metadata"]

    assert namespace["name"] == "flows-etl"
    assert namespace["annotations"] == {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false",
    }
    assert {
        f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
    }.items() <= namespace["labels"].items()


def test_job_pods_use_the_configured_priority_class() -> None:
    made = find(objects(POOLS), "PriorityClass", "flow-run")
    heavy = created_job(STORIES["worker-production"], "heavy")["spec"]["template"]["spec"]
    unnamed = created_job(POOLS)["spec"]["template"]["spec"]

    assert made["value"] < 0
    assert made["preemptionPolicy"] == "Never"
    assert made["globalDefault"] is False
    assert heavy["priorityClassName"] == made["metadata"]["name"]
    assert "priorityClassName" not in unnamed


def quotas(story: Story, pool: str) -> dict[str, Object]:
    """Return the specs of the quotas in the namespace of a pool, by name."""
    return {
        item["metadata"]["name"]: item["spec"]
        for item in objects(story)
        if item["kind"] == "ResourceQuota" and item["metadata"]["namespace"] == f"flows-{pool}"
    }


def test_the_quota_counts_pods_of_every_priority_class() -> None:
    for story in (POOLS, STORIES["worker-production"]):
        quota = quotas(story, "default")["prefect-worker-default-jobs"]
        assert quota.keys() == {"hard"}


def test_no_pod_of_another_priority_class_may_use_up_the_quota_of_a_pool() -> None:
    found = quotas(STORIES["worker-production"], "heavy")
    other = {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["prefect-flow-run"]}

    assert found.keys() == {"prefect-worker-heavy-jobs", "prefect-worker-heavy-rest"}
    assert found["prefect-worker-heavy-rest"] == {
        "hard": {"pods": "0"},
        "scopeSelector": {"matchExpressions": [other]},
    }


@pytest.mark.parametrize(
    "values",
    [
        {},  # the cluster's default class, which the chart does not know
        {
            "jobs.priorityClassName": "prefect-flow-run",
            "jobs.template": {
                "job_configuration": {
                    "job_manifest": {
                        "spec": {"template": {"spec": {"priorityClassName": "{{ class }}"}}}
                    }
                },
                "variables": {"properties": {"class": {"type": "string"}}},
            },
        },
    ],
    ids=["no class", "a class that runs choose"],
)
def test_every_priority_class_may_run_where_the_pool_declares_none(
    values: dict[str, object],
) -> None:
    assert quotas(WORKER.with_values(values), "default").keys() == {"prefect-worker-default-jobs"}


def test_a_pool_without_a_quota_has_none_for_other_priority_classes() -> None:
    declared = find(objects(WORKER), "ResourceQuota", "flow-run")["spec"]["hard"]
    values = {"jobs.priorityClassName": "ours", "jobs.quota": dict.fromkeys(declared)}

    assert quotas(WORKER.with_values(values), "default") == {}


def test_service_accounts_have_the_annotations_of_their_pool() -> None:
    worker = {"example.org/role": "worker"}
    story = STORIES["worker-production"].with_values({"worker.serviceAccountAnnotations": worker})
    rendered = objects(story)
    roles = {
        pool: find(rendered, "ServiceAccount", "flow-run", pool=pool)["metadata"]["annotations"]
        for pool in ("default", "heavy")
    }

    assert {pool: next(iter(role.values())).rpartition("/")[2] for pool, role in roles.items()} == {
        "default": "prefect-production-default-jobs",
        "heavy": "prefect-production-heavy-jobs",
    }
    for pool in ("default", "heavy"):
        account = find(rendered, "ServiceAccount", "worker", pool=pool)
        assert account["metadata"]["annotations"] == worker


@pytest.mark.parametrize(("story", "formatter"), [("worker", "standard"), ("worker-pools", "json")])
def test_logs_use_the_configured_format(
    story: str, formatter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = find(objects(STORIES[story]), "Deployment", "worker", pool="default")
    for pod in (worker, created_job(STORIES[story])):
        with monkeypatch.context() as patch:
            for variable in pod["spec"]["template"]["spec"]["containers"][0]["env"]:
                if variable["name"].startswith("PREFECT_LOGGING_"):
                    patch.setenv(variable["name"], variable["value"])
            handlers = load_logging_config(DEFAULT_LOGGING_SETTINGS_PATH)["handlers"]
        assert handlers["console"]["formatter"] == formatter


@pytest.mark.parametrize(
    ("story", "pool", "queue"),
    [("worker-pools", "etl", None), ("worker-production", "heavy", "--queue=nightly")],
)
def test_helm_test_starts_a_run_in_the_queue_that_the_worker_serves(
    story: str, pool: str, queue: str | None
) -> None:
    pod = find(objects(STORIES[story]), "Pod", "release-test", pool=pool)
    arguments = pod["spec"]["containers"][0]["args"]

    assert pod["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    assert pod["spec"]["restartPolicy"] == "Never"
    assert arguments[-1] == pool
    assert f"--worker=prefect-workers/prefect-worker-{pool}" in arguments
    assert f"--jobs=flows-{pool}" in arguments
    assert [each for each in arguments if each.startswith("--queue")] == ([queue] if queue else [])


@pytest.mark.parametrize("environment", ["local", "staging", "production"])
def test_the_server_of_an_environment_accepts_every_pool_of_its_worker(environment: str) -> None:
    api = find(objects(STORIES[f"server-{environment}"]), "NetworkPolicy", "api")["spec"]
    clients = {
        name
        for rule in api["ingress"]
        for peer in rule["from"]
        for expression in peer.get("namespaceSelector", {}).get("matchExpressions", [])
        for name in expression["values"]
    }
    worker = objects(STORIES[f"worker-{environment}"])
    namespaces = {
        item["metadata"]["namespace"]
        for item in worker
        if item["kind"] in {"Deployment", "LimitRange"}
    }

    assert len(namespaces) >= 2
    assert namespaces <= clients
