"""Where the database is and how it is reached, the same for every process that speaks with it."""

from collections.abc import Iterator

import pytest

from tests.support.rendering import STORIES, Object, Story, containers, find, objects, pod_of

TLS = STORIES["server-external-tls"]
CLUSTER = STORIES["server-cloudnative-pg"]
_CERTIFICATES = "/etc/prefect-database"


def clients(story: Story) -> Iterator[tuple[Object, Object, dict[str, str]]]:
    """Yield pod, container and plain environment of each that speaks with the database."""
    for item in objects(story):
        template = pod_of(item)
        if template is None:
            continue
        pod = template["spec"]
        for container in containers(pod):
            variables = {each["name"]: each.get("value", "") for each in container.get("env", [])}
            if "PREFECT_SERVER_DATABASE_HOST" in variables:
                yield pod, container, variables


def sources(pod: Object) -> list[Object]:
    """Return the Secrets of a pod's certificates."""
    (volume,) = [each for each in pod["volumes"] if each["name"] == "database-certificates"]
    return [source["secret"] for source in volume["projected"]["sources"]]


@pytest.mark.parametrize(("story", "processes"), [(TLS, 4), (CLUSTER, 6)], ids=["external", "cnpg"])
def test_every_process_verifies_the_database_in_full(story: Story, processes: int) -> None:
    found = list(clients(story))

    assert len(found) == processes  # main containers, those that wait, migration Job and sweep
    for _, container, variables in found:
        (mount,) = [
            each for each in container["volumeMounts"] if each["name"] == "database-certificates"
        ]
        assert variables["PGSSLMODE"] == "verify-full"
        assert variables["PGSSLROOTCERT"] == f"{_CERTIFICATES}/ca.crt"
        assert (mount["mountPath"], mount["readOnly"]) == (_CERTIFICATES, True)


def test_certificates_of_the_named_secrets_lie_where_the_environment_says() -> None:
    for pod, _, variables in clients(TLS):
        authority, certificate = sources(pod)
        assert (authority["name"], certificate["name"]) == ("our-authority", "our-certificate")
        paths = {item["path"] for secret in (authority, certificate) for item in secret["items"]}
        assert {
            variables[name].removeprefix(f"{_CERTIFICATES}/")
            for name in ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY")
        } == paths


def test_a_connection_url_is_encrypted_as_its_parts_are() -> None:
    rendered = objects(STORIES["server-external-url"])
    pod = find(rendered, "Deployment", "api")["spec"]["template"]["spec"]
    job = find(rendered, "Job", "migrations")["spec"]["template"]["spec"]

    for container in (*containers(pod), *containers(job)):
        assert {"name": "PGSSLMODE", "value": "require"} in container["env"]


def test_the_embedded_database_is_asked_for_no_tls() -> None:
    for _, _, variables in clients(STORIES["server"]):
        assert not [name for name in variables if name.startswith("PGSSL")]


def test_clients_of_a_cluster_find_its_primary_and_its_authority() -> None:
    name = find(objects(CLUSTER), "Cluster", "database")["metadata"]["name"]

    for pod, _, variables in clients(CLUSTER):
        assert variables["PREFECT_SERVER_DATABASE_HOST"] == f"{name}-rw"
        (authority,) = sources(pod)
        assert authority["name"] == f"{name}-ca"
        assert authority["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


def test_a_cluster_makes_the_database_that_its_clients_ask_for() -> None:
    bootstrap = find(objects(CLUSTER), "Cluster", "database")["spec"]["bootstrap"]["initdb"]

    for _, container, variables in clients(CLUSTER):
        (password,) = [
            each["valueFrom"]["secretKeyRef"]
            for each in container["env"]
            if each["name"] == "PREFECT_SERVER_DATABASE_PASSWORD"
        ]
        assert bootstrap["database"] == variables["PREFECT_SERVER_DATABASE_NAME"]
        assert bootstrap["owner"] == variables["PREFECT_SERVER_DATABASE_USER"]
        assert bootstrap["secret"]["name"] == password["name"]


def test_a_cluster_is_what_the_values_say() -> None:
    affinity = {"podAntiAffinityType": "required", "tolerations": [{"key": "databases"}]}
    given = {
        "database.cloudnativePg.instances": 2,
        "database.cloudnativePg.imageName": "mirror.example.org/postgresql:17.6",
        "database.cloudnativePg.parameters": {"max_connections": "300"},
        "database.cloudnativePg.storage": {"size": "20Gi", "storageClassName": "fast"},
        "database.cloudnativePg.affinity": affinity,
        "database.cloudnativePg.priorityClassName": "databases",
        "global.imagePullSecrets": [{"name": "mirror"}],
    }
    spec = find(objects(CLUSTER.with_values(given)), "Cluster", "database")["spec"]

    assert spec["instances"] == 2
    assert spec["imageName"] == "mirror.example.org/postgresql:17.6"
    assert spec["postgresql"]["parameters"]["max_connections"] == "300"
    assert spec["storage"] == {"size": "20Gi", "storageClass": "fast"}
    assert spec["affinity"] == affinity
    assert spec["priorityClassName"] == "databases"
    assert spec["imagePullSecrets"] == [{"name": "mirror"}]
    assert set(spec["resources"]["requests"]) == {"cpu", "memory"}
