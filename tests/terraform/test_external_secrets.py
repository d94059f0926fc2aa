"""Values of Terraform's secrets come into a cluster by External Secrets itself.

The controller runs against a real API server, and reads moto's Secrets Manager by the roles that
Terraform made.
"""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.polling import wait_until, wait_while
from prefect_platform_cli.host.toolchain import MODULES, go, tool
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support import documented
from tests.support.rendering import ENVIRONMENTS, external_secrets
from tests.support.servers import clean_environment
from tests.terraform.clients import Client
from tests.terraform.conftest import on_account
from tests.terraform.control_plane import control_plane
from tests.terraform.iam import guarded
from tests.terraform.root_module import RootModule

_MODULE = "github.com/external-secrets/external-secrets"
_UNUSED = ("cluster-store", "cluster-external-secret", "push-secret", "cluster-push-secret")
_WITHIN = 60  # seconds until the controller has done what was asked for

Secrets = dict[str, dict[str, dict[str, str]]]
"""Values of Secrets, by namespace, name and key."""


@dataclass(frozen=True)
class Cluster:
    """An API server with a controller of External Secrets, and the account that it reads."""

    module: RootModule
    kubectl: Kubectl
    manager: Client
    declared: list[dict[str, Any]]

    def externals(self) -> list[dict[str, Any]]:
        """Return all ExternalSecrets, as the controller has left them."""
        listed = self.kubectl("get", "externalsecrets", "--all-namespaces", "--output=json")
        found: list[dict[str, Any]] = json.loads(listed)["items"]
        return found

    def secrets(self) -> Secrets:
        """Return what the cluster has."""
        found: Secrets = {}
        listed = self.kubectl("get", "secrets", "--all-namespaces", "--output=json")
        for each in json.loads(listed)["items"]:
            of = found.setdefault(each["metadata"]["namespace"], {})
            of[each["metadata"]["name"]] = {
                key: base64.b64decode(value).decode() for key, value in each["data"].items()
            }
        return found

    def in_account(self) -> Secrets:
        """Return what the declared ExternalSecrets ask for, with the values of the account."""
        wanted: Secrets = {}
        for each in self.declared:
            if each["kind"] != "ExternalSecret":
                continue
            of = wanted.setdefault(each["metadata"]["namespace"], {})
            of[each["metadata"]["name"]] = {
                entry["secretKey"]: self.value(**entry["remoteRef"])
                for entry in each["spec"]["data"]
            }
        return wanted

    def value(self, key: str, property: str) -> str:  # noqa: A002 - the names in the manifest
        """Return the value of a property of a secret of the account."""
        (prefix,) = {
            each["spec"]["provider"]["aws"]["prefix"]
            for each in self.declared
            if each["kind"] == "SecretStore"
        }
        text = self.manager.get_secret_value(SecretId=prefix + key)["SecretString"]
        return str(json.loads(text)[property])

    def wait_until_read(self) -> None:
        """Return when each ExternalSecret has been read."""

        def others() -> list[str]:
            return [
                f"{each['metadata']['namespace']}/{each['metadata']['name']}: {told}"
                for each in self.externals()
                if (told := condition(each)) != "SecretSynced"
            ]

        left = wait_while(others, _WITHIN)
        events = self.kubectl("get", "events", "--all-namespaces")
        assert not left, f"not read after {_WITHIN} s: {left}\n{events}"

    def refusal(self, namespace: str, name: str) -> str:
        """Return what the controller tells of an ExternalSecret that it cannot read."""

        def told() -> bool:
            return any("UpdateFailed" in each["reason"] for each in self.told(namespace, name))

        assert wait_until(told, _WITHIN), f"nothing told of {namespace}/{name} in {_WITHIN} s"
        return " ".join(each["message"] for each in self.told(namespace, name))

    def told(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """Return the events of an object."""
        events = self.kubectl(
            *(f"--namespace={namespace}", "get", "events", "--output=json"),
            f"--field-selector=involvedObject.name={name}",
        )
        found: list[dict[str, Any]] = json.loads(events)["items"]
        return found


def condition(external: dict[str, Any]) -> str:
    """Return the reason of an ExternalSecret's condition Ready; empty before it has one."""
    conditions = external.get("status", {}).get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), "")


@pytest.fixture
def cluster(
    environment: Callable[[str], RootModule], emulator: str, tmp_path: Path
) -> Iterator[Callable[[str], Cluster]]:
    """Return a function that applies an environment and gives its secrets/ to a cluster."""
    with ExitStack() as stack:

        def start(name: str) -> Cluster:
            module = environment(name)
            module.apply()
            iam = on_account("iam", emulator)
            (provider,) = iam.list_roles()["Roles"][0]["AssumeRolePolicyDocument"]["Statement"]
            issuer = provider["Principal"]["Federated"].partition(":oidc-provider/")[2]
            kubectl = stack.enter_context(control_plane(tmp_path, f"https://{issuer}"))
            manager = on_account("secretsmanager", emulator)
            guard = guarded(emulator, iam, manager, kubectl.api())
            stack.enter_context(controller(kubectl, stack.enter_context(guard), tmp_path))
            declared = external_secrets(name)
            for namespace in {each["metadata"]["namespace"] for each in declared}:
                kubectl("create", "namespace", namespace)
            kubectl("apply", "--server-side", f"--kustomize={ENVIRONMENTS / name / 'secrets'}")
            return Cluster(module, kubectl, manager, declared)

        yield start


@contextmanager
def controller(kubectl: Kubectl, account: str, directory: Path) -> Iterator[None]:
    """Run External Secrets while the block runs, with no right in the account of its own."""
    module = subprocess.check_output(
        [go(), "mod", "download", "-json", _MODULE], cwd=MODULES / "external-secrets"
    )
    crds = Path(json.loads(module)["Dir"]) / "config" / "crds" / "bases"
    # All files but the kustomization.
    kubectl("apply", "--server-side", *(f"--filename={each}" for each in crds.glob("*_*.yaml")))
    kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all")
    with (directory / "external-secrets.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(tool("external-secrets"), "--metrics-addr=127.0.0.1:0"),
                *(f"--enable-{each}-reconciler=false" for each in _UNUSED),
            ],
            env={
                **clean_environment(directory),
                "KUBECONFIG": str(kubectl.kubeconfig),
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_STS_ENDPOINT": account,
                "AWS_SECRETSMANAGER_ENDPOINT": account,
            },
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["staging", "production"])
def test_each_secret_that_the_charts_read_has_the_value_that_terraform_made(
    cluster: Callable[[str], Cluster], name: str
) -> None:
    made = cluster(name)

    made.wait_until_read()

    assert made.secrets() == made.in_account()


def test_a_rotated_value_comes_where_it_is_asked_for_and_the_one_before_beside_it(
    cluster: Callable[[str], Cluster],
) -> None:
    made = cluster("production")
    made.wait_until_read()
    before = made.secrets()
    facts = made.module.path / "main.tf"
    facts.write_text(facts.read_text().replace("auth = 1", "auth = 2"))
    made.module.apply()

    made.kubectl("annotate", "externalsecrets", "--namespace=prefect", "--all", "force-sync=2")
    previous_value = documented.block("operations/rotation.md", "## The previous value", "yaml")
    made.kubectl("apply", "--filename=-", stdin=previous_value)
    made.wait_until_read()

    rotated = made.in_account()["prefect"]["prefect-auth"]
    server = {
        **before["prefect"],
        "prefect-auth": rotated,
        "prefect-auth-previous": before["prefect"]["prefect-auth"],
    }
    assert rotated != before["prefect"]["prefect-auth"]
    wait_until(lambda: made.secrets()["prefect"] == server, _WITHIN)
    assert made.secrets() == {**before, "prefect": server}


def test_a_namespace_reads_no_secret_of_another(cluster: Callable[[str], Cluster]) -> None:
    made = cluster("production")
    made.wait_until_read()
    before = made.secrets()
    hostile = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": "stolen", "namespace": "flows-default"},
        "spec": {
            "refreshPolicy": "OnChange",
            "secretStoreRef": {"kind": "SecretStore", "name": "terraform"},
            "data": [
                {
                    "secretKey": "key",
                    "remoteRef": {"key": "encryption", "property": "key"},
                }
            ],
        },
    }

    made.kubectl("apply", "--filename=-", stdin=json.dumps(hostile))
    by_its_own_role = made.refusal("flows-default", "stolen")
    made.kubectl("--namespace=flows-default", "delete", "externalsecret", "stolen")
    # The role of the server's namespace, which may read the key, trusts no account of this one.
    made.kubectl(
        *("--namespace=flows-default", "annotate", "--overwrite", "serviceaccount"),
        "external-secrets",
        "eks.amazonaws.com/role-arn=arn:aws:iam::123456789012:role/prefect-production-prefect-secrets",
    )
    hostile["metadata"] = {"name": "stolen-again", "namespace": "flows-default"}
    made.kubectl("apply", "--filename=-", stdin=json.dumps(hostile))
    by_that_of_another = made.refusal("flows-default", "stolen-again")

    assert {each["metadata"]["name"]: condition(each) for each in made.externals()}[
        "stolen-again"
    ] == "SecretSyncedError"
    assert "secretsmanager:GetSecretValue" in by_its_own_role
    assert "prefect-production-flows-default-secrets is not authorized" in by_its_own_role
    assert "may not assume" in by_that_of_another
    assert made.secrets() == before
