"""Rules for every pod of the platform, whether it comes from a chart or from a manifest."""

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
_SECRET = re.compile(r"PASSWORD|SECRET_ACCESS|AUTH_STRING$|_KEY$|_KEY_ID$|TOKEN$|CONNECTION_URL")
_IN_CHARTS = [(component, component.chart) for component in COMPONENTS if component.chart]

# The pool's limit in k8s/environments/local/platform.yaml, and a pod whose run has just ended: the
# next pod would otherwise wait for the scheduler, for seconds.
_JOB_PODS = 4 + 1
# Millicores that kube-system requests in a kind cluster with one node of our own image, as shown by
# `kubectl describe node`: 650 for the pods of kubeadm, 200 for CoreDNS, 50 for metrics-server,
# and 10 for the NetworkPolicy agent.
_KUBE_SYSTEM = 910

each_component = pytest.mark.parametrize("component", COMPONENTS, ids=lambda each: each.name)
each_chart_component = pytest.mark.parametrize(
    ("component", "chart"), _IN_CHARTS, ids=lambda each: each.name
)


def templates(component: Component) -> Iterator[tuple[str, Object]]:
    """Yield every pod template of a component, with the story that renders it."""
    for story, owners in owners_by_component()[component.name].items():
        for owner in owners:
            yield story, pods_of(owner)


def test_every_rendered_pod_belongs_to_a_listed_component() -> None:
    assert set(owners_by_component()) == {component.name for component in COMPONENTS}


@each_component
def test_a_component_has_its_expected_kind_name_label_and_volume_claims(
    component: Component,
) -> None:
    for story, owners in owners_by_component()[component.name].items():
        for owner in owners:
            assert pods_of(owner)["metadata"]["labels"]["app.kubernetes.io/name"], story
            kinds = {component.kind, "CronJob"} if component.repeated else {component.kind}
            assert owner["kind"] in kinds, story
            assert bool(owner["spec"].get("volumeClaimTemplates")) == component.keeps_data, story


@each_component
def test_its_pods_meet_the_restricted_pod_security_standard(component: Component) -> None:
    for story, template in templates(component):
        pod = template["spec"]
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, story
        assert context["runAsUser"] == context["runAsGroup"] == component.uid > 0, story
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, story
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), story
        for volume in pod.get("volumes", []):
            kinds = set(volume) - {"name"}
            allowed = {"emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim"}
            assert kinds <= allowed, story
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{story}: {container['name']}"
            assert not any("hostPort" in port for port in container.get("ports", [])), story


@each_component
def test_it_has_a_token_only_if_it_uses_the_kubernetes_api(component: Component) -> None:
    for story, template in templates(component):
        assert template["spec"]["automountServiceAccountToken"] is component.token, story


@each_component
def test_kubernetes_adds_no_variables_of_services_to_its_pods(component: Component) -> None:
    # Prefect would read PREFECT_SERVER_DATABASE_PORT=tcp://... as a setting.
    for story, template in templates(component):
        assert template["spec"]["enableServiceLinks"] is False, story


@each_component
def test_it_requests_cpu_and_memory_and_limits_memory(component: Component) -> None:
    for story, template in templates(component):
        for container in containers(template["spec"]):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), story
            assert "memory" in resources["limits"], story


def test_the_local_environment_fits_on_a_node_with_two_cores() -> None:
    # Otherwise, pods that wait for the API could leave no room on the node for a new API pod.
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
    runs = requested.pop("Job flow-run") * _JOB_PODS
    one_at_a_time = [
        requested.pop(name) for name in list(requested) if name.startswith(("Job", "Pod"))
    ]

    assert sum(requested.values()) + runs + max(one_at_a_time) + _KUBE_SYSTEM <= 2000, requested


@each_component
def test_its_writable_volumes_have_a_size_limit(component: Component) -> None:
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
def test_no_variable_is_set_twice(component: Component) -> None:
    # A server-side apply of a pod with duplicate variables fails.
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
def test_an_extra_variable_replaces_that_of_the_chart(
    story: str, component: str, key: str, name: str
) -> None:
    changed = STORIES[story].with_values({key: [{"name": name, "value": "ours"}]})
    pod = pods_of(find(objects(changed), "Deployment", component))["spec"]
    values = [each["value"] for each in pod["containers"][0]["env"] if each["name"] == name]

    assert values == ["ours"]


@each_component
def test_probes_of_long_running_pods_tolerate_load(component: Component) -> None:
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
def test_in_mode_ha_a_rollout_drain_or_node_failure_leaves_a_pod_running(
    component: Component,
) -> None:
    with_services = set(owners_by_component()["services"])  # only mode ha has these pods
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


@each_chart_component
def test_one_network_policy_selects_its_pods_in_both_directions(
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


@each_chart_component
def test_its_images_come_from_the_configured_registry(component: Component, chart: Chart) -> None:
    mirror = {"global.imageRegistry": "mirror.example.org:5000/prefect"}
    for owner in varied_owners(component, mirror):
        for container in containers(pods_of(owner)["spec"]):
            registry = container["image"].rpartition("/")[0]
            assert registry == "mirror.example.org:5000/prefect", chart


@each_chart_component
def test_a_digest_replaces_the_tag_of_its_image(component: Component, chart: Chart) -> None:
    for owner in varied_owners(component, {f"{chart.image}.digest": _DIGEST}):
        for container in containers(pods_of(owner)["spec"]):
            assert container["image"].endswith(f"@{_DIGEST}")


@each_chart_component
def test_pull_secrets_metadata_and_scheduling_follow_the_values(
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


def test_every_service_and_controller_selects_only_its_own_pods() -> None:
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


def test_every_rendered_object_has_the_label_of_the_platform() -> None:
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
def test_values_add_volumes_containers_and_spread_constraints(
    story: str, component: str, key: str
) -> None:
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


def test_a_worker_serves_the_configured_work_queues() -> None:
    changed = STORIES["worker"].with_values({"worker.workQueues": ["urgent", "default"]})
    pod = find(objects(changed), "Deployment", "worker")["spec"]["template"]["spec"]

    assert {"--work-queue=urgent", "--work-queue=default"} <= set(pod["containers"][0]["args"])


@pytest.mark.parametrize("story", ["server", "worker"])
def test_extra_objects_are_rendered_as_templates_of_the_release(story: str) -> None:
    extra = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}-notes"},
    }
    names = [
        item["metadata"]["name"]
        for item in objects(STORIES[story].with_values({"extraObjects": [extra]}))
    ]

    assert f"prefect-{story}-notes" in names


def _millicores(owner: Object) -> int:
    """Return the CPU that a pod of `owner` requests."""
    spec = pods_of(owner)["spec"]

    def request(container: Object) -> int:
        written = str(container["resources"]["requests"]["cpu"])
        return int(written[:-1]) if written.endswith("m") else round(float(written) * 1000)

    init = [request(container) for container in spec.get("initContainers", [])]
    return max([*init, sum(request(container) for container in spec["containers"])])
