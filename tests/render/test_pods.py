"""What every pod of the platform must hold to, whoever renders it."""

import re
from collections.abc import Iterator

import pytest

from tests.render.components import (
    COMPONENTS,
    LABEL,
    Chart,
    Component,
    owners_by_component,
    pods_of,
    varied_owners,
)
from tests.support.rendering import STORIES, Object, all_objects, containers, find, objects

_DIGEST = f"sha256:{'d' * 64}"
_SECRET = re.compile(r"PASSWORD|SECRET_ACCESS|AUTH_STRING$|_KEY$|_KEY_ID$|TOKEN|CONNECTION_URL")
_OURS = [(component, component.chart) for component in COMPONENTS if component.chart]

_RUNS_AT_ONCE = 2  # what k8s/environments/local/platform.yaml lets the pool have
# Millicores that kube-system asks for in a kind cluster of one node of our own image, by
# `kubectl describe node`: 650 of kubeadm's pods, twice 100 of CoreDNS, 50 of metrics-server, 10 of
# the agent of the NetworkPolicies.
_OF_KUBERNETES = 910

each_component = pytest.mark.parametrize("component", COMPONENTS, ids=lambda each: each.name)
each_of_a_chart = pytest.mark.parametrize(("component", "chart"), _OURS, ids=lambda each: each.name)


def templates(component: Component) -> Iterator[tuple[str, Object]]:
    """Return every pod template of a component, each with the story that renders it."""
    for story, owners in owners_by_component()[component.name].items():
        for owner in owners:
            yield story, pods_of(owner)


def test_every_rendered_pod_is_of_a_component_that_is_listed() -> None:
    assert set(owners_by_component()) == {component.name for component in COMPONENTS}


@each_component
def test_a_component_is_of_its_kind_named_and_keeps_the_data_that_it_should(
    component: Component,
) -> None:
    for story, owners in owners_by_component()[component.name].items():
        for owner in owners:
            assert pods_of(owner)["metadata"]["labels"]["app.kubernetes.io/name"], story
            kinds = {component.kind, "CronJob"} if component.repeated else {component.kind}
            assert owner["kind"] in kinds, story
            assert bool(owner["spec"].get("volumeClaimTemplates")) == component.keeps_data, story


@each_component
def test_the_pod_security_standard_restricted_admits_its_pods(component: Component) -> None:
    for story, template in templates(component):
        pod = template["spec"]
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, story
        assert context["runAsUser"] == context["runAsGroup"] == component.uid > 0, story
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, story
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), story
        for volume in pod.get("volumes", []):
            kinds = set(volume) - {"name"}
            assert kinds <= {"emptyDir", "configMap", "secret", "projected"}, story
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{story}: {container['name']}"
            assert not any("hostPort" in port for port in container.get("ports", [])), story


@each_component
def test_it_has_a_token_only_where_it_talks_to_kubernetes(component: Component) -> None:
    for story, template in templates(component):
        assert template["spec"]["automountServiceAccountToken"] is component.token, story


@each_component
def test_it_gets_no_environment_variables_of_services(component: Component) -> None:
    # PREFECT_SERVER_DATABASE_PORT=tcp://... would be one of them.
    for story, template in templates(component):
        assert template["spec"]["enableServiceLinks"] is False, story


@each_component
def test_it_requests_cpu_and_memory_and_limits_memory(component: Component) -> None:
    for story, template in templates(component):
        for container in containers(template["spec"]):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), story
            assert "memory" in resources["limits"], story


def test_a_node_of_two_cores_has_room_for_all_of_the_local_environment_at_once() -> None:
    # Or the API, which everything that waits for it leaves no room, never comes back.
    owners = [
        owner
        for story in ("server-local", "worker-local", "data-local")
        for component in owners_by_component().values()
        for owner in component.get(story, [])
    ]
    requested = {
        f"{owner['kind']} {pods_of(owner)['metadata']['labels'][LABEL]}": _millicores(owner)
        for owner in owners
    }
    runs = requested.pop("Job flow-run") * _RUNS_AT_ONCE
    comes_alone = [
        requested.pop(name) for name in list(requested) if name.startswith(("Job", "Pod"))
    ]

    assert sum(requested.values()) + runs + max(comes_alone) + _OF_KUBERNETES <= 2000, requested


@each_component
def test_its_writable_directories_are_bounded(component: Component) -> None:
    for story, template in templates(component):
        for volume in template["spec"].get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], story


@each_component
def test_its_images_have_a_fixed_tag(component: Component) -> None:
    for story, template in templates(component):
        for container in containers(template["spec"]):
            assert re.search(r":(?!latest$)[\w.-]+$", container["image"]), story
            assert container["imagePullPolicy"] == "IfNotPresent", story


@each_component
def test_no_variable_with_a_secret_name_has_a_literal_value(component: Component) -> None:
    for story, template in templates(component):
        for container in containers(template["spec"]):
            for variable in container.get("env", []):
                if _SECRET.search(variable["name"]) and "SECRET_KEY" not in variable["name"]:
                    assert "secretKeyRef" in variable.get("valueFrom", {}), (
                        f"{story}: {variable['name']}"
                    )


@each_component
def test_no_variable_is_there_twice(component: Component) -> None:
    # Kubernetes refuses such a pod when it is applied on the server's side.
    for story, template in templates(component):
        for container in containers(template["spec"]):
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), story


@pytest.mark.parametrize(
    ("story", "component", "key", "name"),
    [
        ("server-ha", "api", "extraEnv", "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"),
        ("server-ha", "services", "extraEnv", "PREFECT_SERVER_LOGGING_LEVEL"),
        ("worker", "worker", "worker.extraEnv", "PREFECT_CLIENT_MAX_RETRIES"),
    ],
)
def test_people_set_a_variable_in_place_of_the_chart(
    story: str, component: str, key: str, name: str
) -> None:
    changed = STORIES[story].with_values({key: [{"name": name, "value": "ours"}]})
    pod = pods_of(find(objects(changed), "Deployment", component))["spec"]
    values = [each["value"] for each in pod["containers"][0]["env"] if each["name"] == name]

    assert values == ["ours"]


@each_component
def test_the_probes_of_what_runs_for_long_tolerate_load(component: Component) -> None:
    for story, template in templates(component):
        if component.kind in {"Job", "CronJob", "Pod"}:
            assert template["spec"]["restartPolicy"] == "Never", story
            continue
        for container in template["spec"]["containers"]:
            startup, readiness, liveness = (
                container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")
            )
            assert startup["periodSeconds"] <= 2, story
            assert startup["periodSeconds"] * startup["failureThreshold"] >= 120, story
            assert readiness["periodSeconds"] * readiness["failureThreshold"] >= 30, story
            assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60, story
            for probe in (readiness, liveness):
                assert probe["timeoutSeconds"] >= 5, story


@pytest.mark.parametrize(
    "component", [each for each in COMPONENTS if each.several], ids=lambda each: each.name
)
def test_in_mode_ha_no_rollout_drain_or_node_takes_its_last_pod(component: Component) -> None:
    with_services = set(owners_by_component()["services"])  # which pods of their own tell mode ha
    stories = owners_by_component()[component.name].keys() & with_services
    assert stories
    for story in stories:
        budget = find(objects(STORIES[story]), "PodDisruptionBudget", component.name)["spec"]
        for owner in owners_by_component()[component.name][story]:
            selector = owner["spec"]["selector"]
            assert owner["spec"]["strategy"] == {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            }, story
            assert budget == {"maxUnavailable": 1, "selector": selector}, story
            assert [
                (each["topologyKey"], each["labelSelector"])
                for each in pods_of(owner)["spec"]["topologySpreadConstraints"]
            ] == [
                ("kubernetes.io/hostname", selector),
                ("topology.kubernetes.io/zone", selector),
            ], story


@each_of_a_chart
def test_a_network_policy_selects_its_pods_in_both_directions(
    component: Component, chart: Chart
) -> None:
    for story, owners in owners_by_component()[component.name].items():
        policies = [item for item in objects(STORIES[story]) if item["kind"] == "NetworkPolicy"]
        for owner in owners:
            labels = pods_of(owner)["metadata"]["labels"]
            selecting = [
                policy["spec"]["policyTypes"]
                for policy in policies
                if policy["metadata"]["namespace"] == owner["metadata"]["namespace"]
                and policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
            ]
            assert selecting == [["Ingress", "Egress"]], f"{story}: {chart.name}"


@each_of_a_chart
def test_one_registry_serves_its_images(component: Component, chart: Chart) -> None:
    mirror = {"global.imageRegistry": "mirror.example.org:5000/prefect"}
    for owner in varied_owners(component, mirror):
        for container in containers(pods_of(owner)["spec"]):
            registry = container["image"].rpartition("/")[0]
            assert registry == "mirror.example.org:5000/prefect", chart


@each_of_a_chart
def test_a_digest_names_its_image_in_place_of_the_tag(component: Component, chart: Chart) -> None:
    for owner in varied_owners(component, {f"{chart.image}.digest": _DIGEST}):
        for container in containers(pods_of(owner)["spec"]):
            assert container["image"].endswith(f"@{_DIGEST}")


@each_of_a_chart
def test_it_is_pulled_with_the_named_secrets_and_runs_where_people_say(
    component: Component, chart: Chart
) -> None:
    wanted: Object = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "of-our-own",
    }
    secrets = [{"name": "registry-login"}]
    for owner in varied_owners(
        component,
        {
            "global.imagePullSecrets": secrets,
            f"{chart.pod}.podAnnotations": {"example.org/scrape": "true"},
            f"{chart.pod}.podLabels": {"example.org/team": "data", LABEL: "another"},
            **{f"{chart.pod}.{key}": value for key, value in wanted.items()},
        },
    ):
        template = pods_of(owner)
        assert template["metadata"]["annotations"]["example.org/scrape"] == "true"
        assert template["metadata"]["labels"]["example.org/team"] == "data"
        assert template["metadata"]["labels"][LABEL] == component.name
        assert template["spec"]["imagePullSecrets"] == secrets
        assert wanted.items() <= template["spec"].items()


def test_every_service_and_controller_selects_the_pods_of_its_own() -> None:
    for story, rendered in all_objects().items():
        labels = [
            item["spec"]["template"]["metadata"]["labels"]
            for item in rendered
            if "template" in item.get("spec", {})
        ]
        for item in rendered:
            if item["kind"] in {"Service", "Deployment", "StatefulSet"}:
                selector = item["spec"]["selector"]
                wanted = selector.get("matchLabels", selector).items()
                selected = [each for each in labels if wanted <= each.items()]
                assert len(selected) == 1, f"{story}: {item['kind']} {item['metadata']['name']}"


def test_every_object_but_a_job_pod_belongs_to_the_platform() -> None:
    for story, items in all_objects().items():
        for item in items:
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "prefect-platform", (
                f"{story}: {item['kind']} {item['metadata']['name']}"
            )


@pytest.mark.parametrize(
    ("story", "component", "key"),
    [
        ("server", "api", "api"),
        ("server-ha", "services", "backgroundServices"),
        ("worker", "worker", "worker"),
    ],
)
def test_people_add_volumes_and_containers(story: str, component: str, key: str) -> None:
    volume = {"name": "certificates", "configMap": {"name": "our-authority"}}
    mount = {"name": "certificates", "mountPath": "/etc/our-authority", "readOnly": True}
    changed = STORIES[story].with_values(
        {
            f"{key}.extraVolumes": [volume],
            f"{key}.extraVolumeMounts": [mount],
            f"{key}.extraContainers": [{"name": "sidecar", "image": "example.org/s:1"}],
            f"{key}.topologySpreadConstraints": [
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


def _millicores(owner: Object) -> int:
    """Return what a pod of `owner` asks for."""
    spec = pods_of(owner)["spec"]

    def asked(container: Object) -> int:
        written = str(container["resources"]["requests"]["cpu"])
        return int(written[:-1]) if written.endswith("m") else round(float(written) * 1000)

    starting = [asked(container) for container in spec.get("initContainers", [])]
    return max([*starting, sum(asked(container) for container in spec["containers"])])
