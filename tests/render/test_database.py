"""Every process that connects to the database uses the same address and TLS settings."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rendering import (
    STORIES,
    Object,
    Story,
    containers,
    find,
    local_data,
    objects,
    pod_of,
)
from tests.support.servers import free_ports

TLS = STORIES["server-external-tls"]
CLUSTER = STORIES["server-cloudnative-pg"]
_CERTIFICATES = "/etc/prefect-database"


def clients(story: Story) -> Iterator[tuple[Object, Object, dict[str, str]]]:
    """Yield pod, container and plain variables of each process that connects to the database."""
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
    """Return the Secrets in a pod's volume with database certificates."""
    (volume,) = [each for each in pod["volumes"] if each["name"] == "database-certificates"]
    return [source["secret"] for source in volume["projected"]["sources"]]


@pytest.mark.parametrize(("story", "processes"), [(TLS, 4), (CLUSTER, 6)], ids=["external", "cnpg"])
def test_every_process_verifies_certificate_and_host_name_of_the_database(
    story: Story, processes: int
) -> None:
    found = list(clients(story))

    assert len(found) == processes  # with init containers, migration Job and sweep
    for _, container, variables in found:
        (mount,) = [
            each for each in container["volumeMounts"] if each["name"] == "database-certificates"
        ]
        assert variables["PGSSLMODE"] == "verify-full"
        assert variables["PGSSLROOTCERT"] == f"{_CERTIFICATES}/ca.crt"
        assert (mount["mountPath"], mount["readOnly"]) == (_CERTIFICATES, True)


def test_certificates_are_mounted_at_the_paths_in_the_environment() -> None:
    for pod, _, variables in clients(TLS):
        authority, certificate = sources(pod)
        assert (authority["name"], certificate["name"]) == ("our-authority", "our-certificate")
        paths = {item["path"] for secret in (authority, certificate) for item in secret["items"]}
        assert {
            variables[name].removeprefix(f"{_CERTIFICATES}/")
            for name in ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY")
        } == paths


def test_the_tls_mode_also_applies_to_a_connection_url() -> None:
    rendered = objects(STORIES["server-external-url"])
    pod = find(rendered, "Deployment", "api")["spec"]["template"]["spec"]
    job = find(rendered, "Job", "migrations")["spec"]["template"]["spec"]

    for container in (*containers(pod), *containers(job)):
        assert {"name": "PGSSLMODE", "value": "require"} in container["env"]


def test_clients_of_the_embedded_database_have_no_tls_settings() -> None:
    for _, _, variables in clients(STORIES["server"]):
        assert not [name for name in variables if name.startswith("PGSSL")]


def test_cloudnativepg_clients_connect_to_the_primary_and_trust_its_authority() -> None:
    name = find(objects(CLUSTER), "Cluster", "database")["metadata"]["name"]

    for pod, _, variables in clients(CLUSTER):
        assert variables["PREFECT_SERVER_DATABASE_HOST"] == f"{name}-rw"
        (authority,) = sources(pod)
        assert authority["name"] == f"{name}-ca"
        assert authority["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


def test_cloudnativepg_creates_the_database_that_its_clients_use() -> None:
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


def test_a_cloudnativepg_cluster_follows_the_values() -> None:
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


@pytest.mark.parametrize("database", ["prefect-server-database", "warehouse"])
def test_a_password_that_cannot_be_set_fails_the_start_of_the_pod_and_is_explained(
    database: str, tmp_path: Path
) -> None:
    rendered = [*objects(STORIES["server-local"]), *json.loads(local_data())["items"]]
    (pod,) = [
        pod_of(item)
        for item in rendered
        if (item["kind"], item["metadata"]["name"]) == ("StatefulSet", database)
    ]
    assert pod is not None
    (hook,) = [each["lifecycle"]["postStart"] for each in pod["spec"]["containers"]]
    shell, option, script = hook["exec"]["command"]
    log = tmp_path / "log"
    script = script.replace("/proc/1/fd/2", str(log)).replace("+ 600", "+ 0")
    nowhere = {"PGHOST": "127.0.0.1", "PGPORT": str(free_ports(1)[0])}
    ended = subprocess.run(
        [shell, option, script],
        env={"PATH": "/usr/bin:/bin", "POSTGRES_USER": "u", "POSTGRES_DB": "d", **nowhere},
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert "the password of the role u could not be set within 600 s" in log.read_text()
