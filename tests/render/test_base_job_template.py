"""The installed worker creates hardened Jobs from the base job template."""

import json
import re
from contextlib import suppress
from importlib.metadata import entry_points

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect_kubernetes.worker import KubernetesWorkerVariables  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from prefect_platform.plugins.result_writes import SECONDS_VARIABLE
from prefect_platform.reaper.reaper import arguments_parser
from prefect_platform.worker.job_configuration import RefusedJobVariables
from prefect_platform_cli.host.paths import REPOSITORY
from tests.render.job_pods import AUTH_STRING, base_job_template, created_job
from tests.support.rendering import STORIES, Object, find, objects

LOCAL = STORIES["worker-local"]
_DEADLINE = 7200
_VARIABLES = st.sampled_from(
    (
        *("name", "image", "command", "env", "labels", "annotations", "cpu_limit", "env.A"),
        *("active_deadline_seconds", "namespace", "job_manifest", "cluster_config", "labels.a"),
    )
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab{} $./", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "spec", "securityContext"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def environment(job: Object) -> dict[str, Object]:
    """Return the container's variables by name, and fail if one is set twice."""
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert len({variable["name"] for variable in variables}) == len(variables)
    return {variable["name"]: variable for variable in variables}


def test_no_secret_is_written_into_a_job() -> None:
    job = created_job(LOCAL)
    assert AUTH_STRING not in json.dumps(job)
    by_reference = {
        name: (variable["valueFrom"]["secretKeyRef"]["name"])
        for name, variable in environment(job).items()
        if "valueFrom" in variable
    }
    assert by_reference == {
        "AWS_ACCESS_KEY_ID": "object-store",
        "AWS_SECRET_ACCESS_KEY": "object-store",
        "WAREHOUSE_PASSWORD": "warehouse",
        "RESULT_LOCKS_URL": "result-locks",
    }


def test_plain_variables_from_the_values_reach_the_job_pod() -> None:
    variables = environment(created_job(LOCAL))
    assert variables["AWS_ENDPOINT_URL_S3"]["value"] == (
        "http://object-store.data.svc.cluster.local:8333"
    )
    assert variables["WAREHOUSE_PORT"]["value"] == "5432"
    assert variables["PREFECT_RESULTS_PERSIST_BY_DEFAULT"]["value"] == "true"


def test_job_pods_run_the_command_of_the_values_unless_a_deployment_names_another() -> None:
    prefects = ["prefect", "flow-run", "execute"]
    other = LOCAL.with_values({"jobs.command": "prefect flow-run execute"})

    def arguments(job: Object) -> object:
        return job["spec"]["template"]["spec"]["containers"][0]["args"]

    assert arguments(created_job(LOCAL)) == ["python", "-m", "prefect_platform.flow_run"]
    assert arguments(created_job(other)) == prefects
    assert arguments(created_job(LOCAL, command="prefect flow-run execute")) == prefects


def test_a_run_that_retries_api_requests_is_not_silent() -> None:
    """While the API is down, a client waits 2, 4, 8, … s between its retries."""
    reaper = find(objects(LOCAL), "CronJob", "reaper")["spec"]["jobTemplate"]["spec"]
    (given,) = reaper["template"]["spec"]["containers"]
    silence = arguments_parser().parse_args(given["args"]).silence.total_seconds()
    # The worker passes its Prefect settings on to the job pods.
    (worker,) = find(objects(LOCAL), "Deployment", "worker")["spec"]["template"]["spec"][
        "containers"
    ]
    settings = {each["name"]: each.get("value") for each in worker["env"]}
    retries = int(settings["PREFECT_CLIENT_MAX_RETRIES"])
    assert silence > sum(2**attempt for attempt in range(1, retries + 1))


def test_a_deployment_overrides_single_fields_and_keeps_the_rest() -> None:
    job = created_job(
        LOCAL,
        image="registry.example.org/team/flows:7",
        env={"RAW_BUCKET": "other", "TEAM": "a"},
        labels={"team": "a"},
        cpu_request="1",
        cpu_limit="2",
        memory_request="1Gi",
        memory_limit="2Gi",
        active_deadline_seconds=_DEADLINE,
    )
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.example.org/team/flows:7"
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }
    assert job["spec"]["activeDeadlineSeconds"] == _DEADLINE
    for labelled in (job, job["spec"]["template"]):
        assert labelled["metadata"]["labels"]["team"] == "a"
        assert labelled["metadata"]["labels"]["app.kubernetes.io/component"] == "flow-run"
    variables = environment(job)
    assert variables["RAW_BUCKET"]["value"] == "other"
    assert variables["TEAM"]["value"] == "a"
    assert variables["ARTIFACTS_BUCKET"]["value"] == "artifacts"
    assert "valueFrom" in variables["WAREHOUSE_PASSWORD"]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"namespace": "kube-system"}, "namespace is not a job variable"),
        ({"service_account_name": "prefect-worker"}, "service_account_name is not a job variable"),
        ({"backoff_limit": 3}, "backoff_limit is not a job variable"),
        ({"job_manifest": {}}, "job_manifest is not a job variable"),
        ({"cluster_config": {"config_file": {}}}, "cluster_config is not a job variable"),
        ({"cluster_config.config_file": {}}, "cluster_config is not a job variable"),
        ({"active_deadline_seconds": None}, "active_deadline_seconds does not meet the rule `type"),
        ({"active_deadline_seconds": 0}, "does not meet the rule `minimum: 1`"),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy does not meet the rule `enum"),
        ({"image": {"a": "b"}}, "image does not meet the rule `type"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "env does not meet the rule `type"),
        ({"env.A": {"b": "c"}}, "env.A does not meet the rule `anyOf"),
        ({"labels": {"team": 1}}, "labels.team does not meet the rule `type"),
        ({"labels": {"prefect.io/flow-run-id": "x"}}, "labels sets prefect.io/flow-run-id"),
        ({"labels": {"prefect.io /flow-run-id": "x"}}, "labels sets prefect.io /flow-run-id"),
        ({"labels": {"app.kubernetes.io/component": "x"}}, "labels sets app.kubernetes.io/compon"),
        ({"labels": {"job-name": "x"}}, "labels sets job-name"),
        ({"annotations": {"prefect.io/a": "x"}}, "annotations sets prefect.io/a"),
        ({"name": "{{ $PATH }}"}, "name refers to an environment variable of the worker"),
    ],
    ids=str,
)
def test_job_variables_cannot_change_what_the_chart_does_not_let_them_set(
    variables: dict[str, object], sentence: str
) -> None:
    with pytest.raises(RefusedJobVariables, match=re.escape(sentence)):
        created_job(LOCAL, **variables)


def test_the_refusal_of_a_job_variable_does_not_contain_its_value() -> None:
    secret = "hunter2-in-the-wrong-place"
    with pytest.raises(RefusedJobVariables) as refused:
        created_job(LOCAL, image=[secret], labels=secret, cpu_limit={"a": secret})
    assert secret not in str(refused.value)


def test_labels_of_the_chart_cannot_be_replaced_by_job_variables() -> None:
    labelled = LOCAL.with_values({"jobs.labels": {"cost-centre": "data"}})
    assert created_job(labelled)["metadata"]["labels"]["cost-centre"] == "data"
    with pytest.raises(RefusedJobVariables, match="labels sets cost-centre"):
        created_job(labelled, labels={"cost-centre": "other"})


def isolation(job: Object) -> object:
    """Return everything that isolates a run, without the run's id."""
    pod = job["spec"]["template"]["spec"]
    container = {key: pod["containers"][0].get(key) for key in ("securityContext", "command")}
    run = job["metadata"]["labels"]["prefect.io/flow-run-id"]
    isolated = json.dumps({**pod, "containers": [container]}, sort_keys=True)
    return job["metadata"]["namespace"], isolated.replace(run, "RUN")


@pytest.fixture(scope="module")
def isolated() -> object:
    """Return the isolation of a run without job variables."""
    return isolation(created_job(LOCAL))


@given(variables=st.dictionaries(_VARIABLES, _JSON, max_size=3))
@settings(max_examples=60, deadline=None)
def test_no_job_variable_changes_the_isolation_of_a_run(
    isolated: object, variables: dict[str, object]
) -> None:
    with suppress(RefusedJobVariables):
        job = created_job(LOCAL, **variables)
        assert isolation(job) == isolated
        assert job["spec"]["activeDeadlineSeconds"] > 0


def test_the_installed_worker_knows_every_variable_except_the_deadline() -> None:
    declared = base_job_template(LOCAL)["variables"]["properties"]
    known = KubernetesWorkerVariables.model_json_schema()["properties"]
    assert set(declared) - set(known) == {"active_deadline_seconds"}


def test_a_job_has_a_deadline_and_is_deleted_after_it_finishes() -> None:
    spec = created_job(LOCAL)["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] >= 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_the_worker_has_permissions_only_in_the_namespace_of_its_jobs() -> None:
    rendered = objects(LOCAL)
    in_the_cluster = [
        rule for item in rendered if item["kind"] == "ClusterRole" for rule in item["rules"]
    ]
    assert not any("resources" in rule for rule in in_the_cluster)
    role, binding = find(rendered, "Role", "worker"), find(rendered, "RoleBinding", "worker")
    job_namespace = created_job(LOCAL)["metadata"]["namespace"]
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == job_namespace
    assert {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    } == {
        *(("jobs", verb) for verb in ("create", "get", "list", "watch", "delete")),
        ("pods", "list"),
        ("pods", "watch"),
        ("pods/log", "get"),
        ("events", "list"),
        ("events", "watch"),
    }


def test_job_pods_use_a_service_account_without_a_token() -> None:
    account = find(objects(LOCAL), "ServiceAccount", "flow-run")
    job = created_job(LOCAL)
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["namespace"] == job["metadata"]["namespace"]
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is False


def test_extra_volumes_are_mounted_into_job_pods() -> None:
    volume = {"name": "certificates", "configMap": {"name": "our-authority"}}
    mount = {"name": "certificates", "mountPath": "/etc/our-authority", "readOnly": True}
    pod = created_job(
        LOCAL.with_values({"jobs.extraVolumes": [volume], "jobs.extraVolumeMounts": [mount]})
    )["spec"]["template"]["spec"]

    assert [each["name"] for each in pod["volumes"]] == ["tmp", "pod-token", "certificates"]
    assert mount in pod["containers"][0]["volumeMounts"]


def test_values_override_single_fields_of_the_base_job_template() -> None:
    variable = {"title": "Architecture", "type": "string", "default": "arm64"}
    manifest = {
        "metadata": {"annotations": {"example.org/owner": "data"}},
        "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/arch": "{{ arch }}"}}}},
    }
    changed = LOCAL.with_values(
        {
            "jobs.template": {
                "job_configuration": {"job_manifest": manifest},
                "variables": {
                    "properties": {"arch": variable, "cpu_request": {"default": "300m"}},
                },
            }
        }
    )
    job, chosen = created_job(changed), created_job(changed, arch="amd64")

    assert job["metadata"]["annotations"]["example.org/owner"] == "data"
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert spec["containers"][0]["resources"]["requests"]["cpu"] == "300m"
    assert chosen["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}

    def without_overrides(template: Object) -> Object:
        template["variables"]["properties"].pop("arch", None)
        template["variables"]["properties"]["cpu_request"].pop("default")
        template["job_configuration"]["job_manifest"]["metadata"].pop("annotations", None)
        spec = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        spec.pop("nodeSelector", None)
        return template

    assert without_overrides(base_job_template(changed)) == without_overrides(
        base_job_template(LOCAL)
    )


def test_results_of_each_pool_go_to_the_block_in_its_values() -> None:
    story = STORIES["worker-production"]
    blocks = {
        pool: environment(created_job(story, pool))["PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK"]
        for pool in ("default", "heavy")
    }
    assert {pool: variable["value"] for pool, variable in blocks.items()} == {
        "default": "s3-bucket/results-default",
        "heavy": "s3-bucket/results-heavy",
    }


@pytest.mark.parametrize("name", ["local", "staging", "production"])
def test_each_result_storage_block_is_declared_and_contains_no_key(name: str) -> None:
    folder = REPOSITORY / "k8s" / "environments" / name
    values = YAML(typ="safe").load(folder / "worker.yaml")
    blocks = YAML(typ="safe").load(folder / "platform.yaml")["blocks"]
    pools: dict[str, Object] = values.get("pools", {})
    named = [values["jobs"], *(pool["jobs"] for pool in pools.values() if "jobs" in pool)]
    for jobs in named:
        block = blocks[jobs["results"]["storageBlock"]]
        assert set(block["credentials"]) == {"block_type_slug", "aws_client_parameters"}


def test_without_a_storage_block_prefect_uses_its_default_storage() -> None:
    variables = environment(created_job(LOCAL.with_values({"jobs.results.storageBlock": ""})))
    assert not {name for name in variables if name.startswith("PREFECT_RESULTS_")}


def test_job_pods_enable_the_plugin_that_fails_runs_with_lost_results() -> None:
    # The worker passes its Prefect settings on to the job pods.
    worker = find(objects(LOCAL), "Deployment", "worker")["spec"]["template"]["spec"]
    settings = {each["name"]: each.get("value") for each in worker["containers"][0]["env"]}
    plugins = set(settings["PREFECT_PLUGINS_ALLOW"].split(","))
    assert settings["PREFECT_PLUGINS_ENABLED"] == "true"
    assert "result-writes" in plugins
    assert plugins <= {each.name for each in entry_points(group="prefect.plugins")}
    assert float(str(environment(created_job(LOCAL))[SECONDS_VARIABLE]["value"])) > 0
