"""With TLS, all that serves, probes or calls the API uses HTTPS and finds the certificates."""

import json

import pytest

from prefect_platform_cli.deploy.connection import scheme
from tests.render.components import pod_owners, pods_of
from tests.render.job_pods import created_job
from tests.support.rendering import STORIES, Object, Story, containers, find, objects

_SERVERS = [STORIES["server-tls"], STORIES["server-cert-manager"]]
_WORKER = STORIES["worker-tls"]
_AUTHORITY = "PREFECT_API_SSL_CERT_FILE"


def pod(story: Story) -> Object:
    spec: Object = find(objects(story), "Deployment", "api")["spec"]["template"]["spec"]
    return spec


def environment(container: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


def mounts(container: Object) -> dict[str, str]:
    return {each["mountPath"]: each["name"] for each in container.get("volumeMounts", [])}


@pytest.mark.parametrize("story", _SERVERS)
def test_the_api_finds_its_certificate_in_a_volume(story: Story) -> None:
    container = pod(story)["containers"][0]
    given = environment(container)
    (volume,) = [each for each in pod(story)["volumes"] if each["name"] == "certificate"]
    files = {
        f"{path}/{item['path']}"
        for path, name in mounts(container).items()
        if name == "certificate"
        for item in volume["secret"]["items"]
    }

    assert "api-tls" in given["PREFECT_PLUGINS_ALLOW"].split(",")
    assert {given["API_TLS_CERTIFICATE_FILE"], given["API_TLS_KEY_FILE"]} == files


def test_cert_manager_writes_the_certificate_that_the_api_serves() -> None:
    story = STORIES["server-cert-manager"]
    certificate = find(objects(story), "Certificate", "api")["spec"]
    (volume,) = [each for each in pod(story)["volumes"] if each["name"] == "certificate"]
    default = environment(
        find(objects(STORIES["worker"]), "Deployment", "worker")["spec"]["template"]["spec"][
            "containers"
        ][0]
    )["PREFECT_API_URL"]

    assert volume["secret"]["secretName"] == certificate["secretName"]
    assert default.split("/")[2].partition(":")[0] in certificate["dnsNames"]


@pytest.mark.parametrize("story", _SERVERS)
def test_probes_service_policy_and_ingress_follow_the_scheme(story: Story) -> None:
    rendered = objects(story)
    container = pod(story)["containers"][0]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    (port,) = find(rendered, "Service", "api")["spec"]["ports"]
    (rule,) = find(rendered, "NetworkPolicy", "api")["spec"]["ingress"]

    assert [(each["port"], each["scheme"]) for each in probes] == [("https", "HTTPS")] * 3
    assert [each["name"] for each in container["ports"]] == ["https"]
    assert (port["name"], port["targetPort"], port["appProtocol"]) == ("https",) * 3
    assert [each["port"] for each in rule["ports"]] == ["https"]
    assert scheme(find(rendered, "Deployment", "api")) == "https"
    assert scheme(find(objects(STORIES["server"]), "Deployment", "api")) == "http"
    for ingress in (item for item in rendered if item["kind"] == "Ingress"):
        assert '"port": {"name": "https"}' in json.dumps(ingress)


def test_every_container_that_knows_the_api_trusts_its_authority() -> None:
    called = [
        (container, spec)
        for owner in pod_owners(_WORKER)
        for spec in [pods_of(owner)["spec"]]
        for container in containers(spec)
    ]
    components = {
        pods_of(owner)["metadata"]["labels"]["app.kubernetes.io/component"]
        for owner in pod_owners(_WORKER)
    }

    assert components == {"worker", "reaper", "configuration", "release-test", "flow-run"}
    for container, spec in called:
        folder, _, file = environment(container)[_AUTHORITY].rpartition("/")
        (volume,) = [each for each in spec["volumes"] if each["name"] == mounts(container)[folder]]
        assert environment(container)["PREFECT_API_URL"].startswith("https://")
        assert volume["configMap"] == {
            "name": "our-authority",
            "items": [{"key": "ca.crt", "path": file}],
        }


def test_the_authority_may_be_in_a_secret() -> None:
    story = _WORKER.with_values({"api.certificateAuthority.kind": "Secret"})
    volumes = created_job(story)["spec"]["template"]["spec"]["volumes"]

    assert {
        "name": "api-authority",
        "secret": {"secretName": "our-authority", "items": [{"key": "ca.crt", "path": "ca.crt"}]},
    } in volumes
