"""What every pod of the platform must hold to, whoever renders it."""

import re
from functools import cache

import pytest

from tests.render.job_pods import created_job
from tests.render.rendering import STORIES, Object, all_objects, containers, find, objects


@cache
def pods() -> dict[str, Object]:
    """Return every pod template, with its labels, by story and owner."""
    found = {
        f"{story}/{item['kind']}/{item['metadata']['name']}": item["spec"]["template"]
        for story, items in all_objects().items()
        for item in items
        if "template" in item.get("spec", {})
    }
    found["worker-local/flow run"] = created_job(STORIES["worker-local"])["spec"]["template"]
    return found


def test_every_kind_of_pod_is_covered() -> None:
    names = " ".join(pods())
    for owner in (
        "Deployment/prefect-server",
        "Job/prefect-server-migrations",
        "StatefulSet/prefect-server-database",
        "Deployment/prefect-worker",
        "StatefulSet/object-store",
        "StatefulSet/warehouse",
        "Job/publish-flights",
        "flow run",
    ):
        assert owner in names


def test_the_pod_security_standard_restricted_admits_every_pod() -> None:
    for name, template in pods().items():
        pod = template["spec"]
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "secret", "projected"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{name}: {container['name']}"
            assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_only_the_worker_has_a_token() -> None:
    with_token = {
        name for name, pod in pods().items() if pod["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {
        "worker/Deployment/prefect-worker",
        "worker-local/Deployment/prefect-worker",
    }


def test_no_pod_gets_environment_variables_of_services() -> None:
    # PREFECT_SERVER_DATABASE_PORT=tcp://... would be one of them.
    for name, pod in pods().items():
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_every_container_requests_cpu_and_memory_and_limits_memory() -> None:
    for name, pod in pods().items():
        for container in containers(pod["spec"]):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"], name


def test_every_writable_directory_is_bounded() -> None:
    for name, pod in pods().items():
        for volume in pod["spec"].get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name


def test_every_image_has_a_fixed_tag() -> None:
    for name, pod in pods().items():
        for container in containers(pod["spec"]):
            assert re.search(r":(?!latest$)[\w.-]+$", container["image"]), name
            assert container["imagePullPolicy"] == "IfNotPresent", name


def test_no_variable_with_a_secret_name_has_a_literal_value() -> None:
    secret = re.compile(r"PASSWORD|SECRET_ACCESS|AUTH_STRING$|_KEY$|_KEY_ID$|TOKEN|CONNECTION_URL")
    for name, pod in pods().items():
        for container in containers(pod["spec"]):
            for variable in container.get("env", []):
                if secret.search(variable["name"]) and "SECRET_KEY" not in variable["name"]:
                    assert "secretKeyRef" in variable.get("valueFrom", {}), (
                        f"{name}: {variable['name']}"
                    )


def test_every_long_running_container_has_probes_that_tolerate_load() -> None:
    for name, pod in pods().items():
        if pod["spec"].get("restartPolicy") == "Never":
            continue
        for container in pod["spec"]["containers"]:
            startup, readiness, liveness = (
                container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")
            )
            assert startup["periodSeconds"] <= 2, name
            assert startup["periodSeconds"] * startup["failureThreshold"] >= 120, name
            assert readiness["periodSeconds"] * readiness["failureThreshold"] >= 30, name
            assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60, name
            for probe in (readiness, liveness):
                assert probe["timeoutSeconds"] >= 5, name


def test_every_pod_is_found_by_its_component() -> None:
    for name, pod in pods().items():
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"], name
        assert pod["metadata"]["labels"]["app.kubernetes.io/name"], name


def test_every_object_but_a_job_pod_belongs_to_the_platform() -> None:
    for story, items in all_objects().items():
        for item in items:
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "prefect-platform", (
                f"{story}: {item['kind']} {item['metadata']['name']}"
            )


@pytest.mark.parametrize("story", ["server", "server-ha", "worker", "data-local"])
def test_every_service_and_controller_selects_the_pods_of_its_own(story: str) -> None:
    rendered = all_objects()[story]
    templates = [
        item["spec"]["template"] for item in rendered if "template" in item.get("spec", {})
    ]
    for item in rendered:
        if item["kind"] not in {"Service", "Deployment", "StatefulSet"}:
            continue
        selector = item["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        selected = [pod for pod in templates if wanted <= pod["metadata"]["labels"].items()]
        assert len(selected) == 1, f"{item['kind']} {item['metadata']['name']}"


@pytest.mark.parametrize(
    ("story", "component", "owner"),
    [
        ("server", "api", "Deployment"),
        ("server", "migrations", "Job"),
        ("server", "database.embedded", "StatefulSet"),
        ("server-ha", "redis.embedded", "StatefulSet"),
        ("server-ha", "services", "Deployment"),
        ("worker", "worker", "Deployment"),
        ("worker", "jobs", "flow run"),
    ],
)
def test_people_say_where_pods_run_and_annotate_them(
    story: str, component: str, owner: str
) -> None:
    wanted: Object = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "of-our-own",
    }
    given = {f"{component}.{key}": value for key, value in wanted.items()}
    given[f"{component}.annotations"] = {"example.org/scrape": "true"}
    changed = STORIES[story].with_values(given)
    found = (
        created_job(changed)
        if owner == "flow run"
        else find(objects(changed), owner, component.partition(".")[0])
    )

    template = found["spec"]["template"]
    assert template["metadata"]["annotations"]["example.org/scrape"] == "true"
    assert wanted.items() <= template["spec"].items()


@pytest.mark.parametrize(
    ("story", "component"), [("server", "api"), ("server-ha", "services"), ("worker", "worker")]
)
def test_people_add_volumes_and_containers(story: str, component: str) -> None:
    volume = {"name": "certificates", "configMap": {"name": "our-authority"}}
    mount = {"name": "certificates", "mountPath": "/etc/our-authority", "readOnly": True}
    changed = STORIES[story].with_values(
        {
            f"{component}.extraVolumes": [volume],
            f"{component}.extraVolumeMounts": [mount],
            f"{component}.extraContainers": [{"name": "sidecar", "image": "example.org/s:1"}],
            f"{component}.topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
            ],
        }
    )
    pod = find(objects(changed), "Deployment", component)["spec"]["template"]["spec"]

    assert volume in pod["volumes"]
    assert mount in pod["containers"][0]["volumeMounts"]
    assert pod["containers"][1]["name"] == "sidecar"
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "zone"


def test_a_worker_serves_the_queues_that_are_named() -> None:
    changed = STORIES["worker"].with_values({"worker.workQueues": ["urgent", "default"]})
    pod = find(objects(changed), "Deployment", "worker")["spec"]["template"]["spec"]

    assert {"--work-queue=urgent", "--work-queue=default"} <= set(pod["containers"][0]["args"])


@pytest.mark.parametrize("story", ["server", "worker"])
def test_further_objects_come_with_the_chart_and_know_its_release(story: str) -> None:
    further = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}-notes"},
    }
    names = [
        item["metadata"]["name"]
        for item in objects(STORIES[story].with_values({"extraObjects": [further]}))
    ]

    assert f"prefect-{story}-notes" in names
