"""The base job template is one that the installed worker makes hardened Jobs of."""

import json
from importlib.metadata import entry_points

import pytest
from prefect_kubernetes.worker import KubernetesWorkerVariables  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from prefect_platform.configuration.automations.automation_pack import BEATS, PACK
from prefect_platform.plugins.result_writes import SECONDS_VARIABLE
from prefect_platform_cli.host.paths import REPOSITORY
from tests.render.job_pods import AUTH_STRING, base_job_template, created_job
from tests.support.rendering import STORIES, Object, find, objects

LOCAL = STORIES["worker-local"]
_DEADLINE = 7200


def environment(job: Object) -> dict[str, Object]:
    """Return the container's variables by name; fails when one is there twice."""
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
        "PREFECT_API_AUTH_STRING": "prefect-auth",
        "AWS_ACCESS_KEY_ID": "object-store",
        "AWS_SECRET_ACCESS_KEY": "object-store",
        "WAREHOUSE_PASSWORD": "warehouse",
        "RESULT_LOCKS_URL": "result-locks",
    }


def test_plain_variables_of_the_values_reach_the_run() -> None:
    variables = environment(created_job(LOCAL))
    assert variables["AWS_ENDPOINT_URL_S3"]["value"] == (
        "http://object-store.data.svc.cluster.local:8333"
    )
    assert variables["WAREHOUSE_PORT"]["value"] == "5432"
    assert variables["PREFECT_RESULTS_PERSIST_BY_DEFAULT"]["value"] == "true"


def test_a_run_that_waits_for_the_api_is_no_zombie() -> None:
    """The pack fits the chart: three heartbeats within its bound, and a client gives up sooner.

    A client waits 2, 4, 8, … s between its tries to reach an API that is away.
    """
    within = PACK["zombie"].within
    assert within is not None
    job = environment(created_job(LOCAL))
    assert within >= BEATS * int(str(job["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]["value"]))
    # The worker's settings of Prefect travel on to the job pods.
    (worker,) = find(objects(LOCAL), "Deployment", "worker")["spec"]["template"]["spec"][
        "containers"
    ]
    settings = {each["name"]: each.get("value") for each in worker["env"]}
    retries = int(settings["PREFECT_CLIENT_MAX_RETRIES"])
    assert within > sum(2**attempt for attempt in range(1, retries + 1))


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
    "variables",
    [
        {"namespace": "kube-system"},
        {"service_account_name": "prefect-worker"},
        {"backoff_limit": 3},
        {"job_manifest": {}},
        {"cluster_config": {"config_file": {}, "context_name": "elsewhere"}},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_what_isolates_a_run_cannot_be_overridden(variables: dict[str, object]) -> None:
    def comparable(job: Object) -> object:
        spec = job["spec"]
        return (
            job["metadata"]["namespace"],
            spec["backoffLimit"],
            {
                **spec["template"]["spec"],
                "containers": None,
            },
        )

    assert comparable(created_job(LOCAL, **variables)) == comparable(created_job(LOCAL))


def test_each_variable_is_one_of_the_installed_worker_or_the_deadline() -> None:
    declared = base_job_template(LOCAL)["variables"]["properties"]
    known = KubernetesWorkerVariables.model_json_schema()["properties"]
    assert set(declared) - set(known) == {"active_deadline_seconds"}


def test_the_job_ends_in_time_and_is_cleaned_up() -> None:
    spec = created_job(LOCAL)["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] >= 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_the_worker_has_rights_in_the_namespace_of_its_jobs_alone() -> None:
    rendered = objects(LOCAL)
    kinds = {item["kind"] for item in rendered}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}
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


def test_the_job_runs_under_the_account_without_a_token() -> None:
    account = find(objects(LOCAL), "ServiceAccount", "flow-run")
    job = created_job(LOCAL)
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["namespace"] == job["metadata"]["namespace"]
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is False


def test_people_mount_volumes_of_their_own_into_job_pods() -> None:
    volume = {"name": "certificates", "configMap": {"name": "our-authority"}}
    mount = {"name": "certificates", "mountPath": "/etc/our-authority", "readOnly": True}
    pod = created_job(
        LOCAL.with_values({"jobs.extraVolumes": [volume], "jobs.extraVolumeMounts": [mount]})
    )["spec"]["template"]["spec"]

    assert [each["name"] for each in pod["volumes"]] == ["tmp", "certificates"]
    assert mount in pod["containers"][0]["volumeMounts"]


def test_people_lay_single_fields_over_the_template() -> None:
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


def test_results_of_each_pool_go_to_the_block_that_its_values_name() -> None:
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
def test_each_block_of_results_is_declared_and_holds_no_key(name: str) -> None:
    folder = REPOSITORY / "k8s" / "environments" / name
    values = YAML(typ="safe").load(folder / "worker.yaml")
    blocks = YAML(typ="safe").load(folder / "platform.yaml")["blocks"]
    pools: dict[str, Object] = values.get("pools", {})
    named = [values["jobs"], *(pool["jobs"] for pool in pools.values() if "jobs" in pool)]
    for jobs in named:
        block = blocks[jobs["results"]["storageBlock"]]
        assert set(block["credentials"]) == {"block_type_slug", "aws_client_parameters"}


def test_without_a_block_results_stay_where_prefect_puts_them() -> None:
    variables = environment(created_job(LOCAL.with_values({"jobs.results.storageBlock": ""})))
    assert not {name for name in variables if name.startswith("PREFECT_RESULTS_")}


def test_a_lost_result_fails_its_run_in_every_job_pod() -> None:
    # The worker's settings of Prefect travel on to the job pods.
    worker = find(objects(LOCAL), "Deployment", "worker")["spec"]["template"]["spec"]
    settings = {each["name"]: each.get("value") for each in worker["containers"][0]["env"]}
    plugins = set(settings["PREFECT_PLUGINS_ALLOW"].split(","))
    assert settings["PREFECT_PLUGINS_ENABLED"] == "true"
    assert "result-writes" in plugins
    assert plugins <= {each.name for each in entry_points(group="prefect.plugins")}
    assert float(str(environment(created_job(LOCAL))[SECONDS_VARIABLE]["value"])) > 0
