"""External Secrets copies the values of Terraform's secrets into a cluster.

The real controller runs against a real API server, and reads moto's Secrets Manager with the roles
that Terraform created.
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
from tests.support.control_plane import control_plane
from tests.support.rendering import ENVIRONMENTS, external_secrets
from tests.support.servers import clean_environment
from tests.terraform.clients import Client
from tests.terraform.conftest import account_client
from tests.terraform.iam import guarded
from tests.terraform.root_module import RootModule

_MODULE = "github.com/external-secrets/external-secrets"
_UNUSED = ("cluster-store", "cluster-external-secret", "push-secret", "cluster-push-secret")
_WITHIN = 60  # seconds until the controller has reconciled its objects

Secrets = dict[str, dict[str, dict[str, str]]]
"""The values of Secrets, by namespace, name and key."""


@dataclass(frozen=True)
class Cluster:
    """An API server with the External Secrets controller, and the account that it reads."""

    module: RootModule
    kubectl: Kubectl
    manager: Client
    declared: list[dict[str, Any]]

    def externals(self) -> list[dict[str, Any]]:
        """Return all ExternalSecrets with their current status."""
        listed = self.kubectl("get", "externalsecrets", "--all-namespaces", "--output=json")
        found: list[dict[str, Any]] = json.loads(listed)["items"]
        return found

    def secrets(self) -> Secrets:
        """Return the Secrets in the cluster."""
        found: Secrets = {}
        listed = self.kubectl("get", "secrets", "--all-namespaces", "--output=json")
        for each in json.loads(listed)["items"]:
            of = found.setdefault(each["metadata"]["namespace"], {})
            of[each["metadata"]["name"]] = {
                key: base64.b64decode(value).decode() for key, value in each["data"].items()
            }
        return found

    def in_account(self) -> Secrets:
        """Return the Secrets that the ExternalSecrets declare, with the values in the account."""
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
        """Return the value of a property of a secret in the account."""
        (prefix,) = {
            each["spec"]["provider"]["aws"]["prefix"]
            for each in self.declared
            if each["kind"] == "SecretStore"
        }
        text = self.manager.get_secret_value(SecretId=prefix + key)["SecretString"]
        return str(json.loads(text)[property])

    def wait_until_synced(self) -> None:
        """Wait until every ExternalSecret is synced."""

        def unsynced() -> list[str]:
            return [
                f"{each['metadata']['namespace']}/{each['metadata']['name']}: {reason}"
                for each in self.externals()
                if (reason := ready_reason(each)) != "SecretSynced"
            ]

        left = wait_while(unsynced, _WITHIN)
        events = self.kubectl("get", "events", "--all-namespaces")
        assert not left, f"not synced after {_WITHIN} s: {left}\n{events}"

    def refusal(self, namespace: str, name: str) -> str:
        """Return the controller's error for an ExternalSecret that it cannot sync."""

        def failed() -> bool:
            return any("UpdateFailed" in each["reason"] for each in self.events(namespace, name))

        assert wait_until(failed, _WITHIN), f"no error for {namespace}/{name} after {_WITHIN} s"
        return " ".join(each["message"] for each in self.events(namespace, name))

    def events(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """Return the events of an object."""
        events = self.kubectl(
            *(f"--namespace={namespace}", "get", "events", "--output=json"),
            f"--field-selector=involvedObject.name={name}",
        )
        found: list[dict[str, Any]] = json.loads(events)["items"]
        return found


def external_secret(name: str, key: str, property: str) -> dict[str, Any]:  # noqa: A002 - as in value
    """Return an ExternalSecret in prefect-workers with one property of a secret in the account."""
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": "prefect-workers"},
        "spec": {
            "refreshPolicy": "OnChange",
            "secretStoreRef": {"kind": "SecretStore", "name": "terraform"},
            "data": [{"secretKey": property, "remoteRef": {"key": key, "property": property}}],
        },
    }


def ready_reason(external: dict[str, Any]) -> str:
    """Return the reason of an ExternalSecret's Ready condition; empty if it has none yet."""
    conditions = external.get("status", {}).get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), "")


@pytest.fixture
def cluster(
    environment: Callable[[str], RootModule], emulator: str, tmp_path: Path
) -> Iterator[Callable[[str], Cluster]]:
    """Yield a function that applies an environment, and its secrets/ to a new cluster."""
    with ExitStack() as stack:

        def start(name: str) -> Cluster:
            module = environment(name)
            module.apply()
            iam = account_client("iam", emulator)
            (provider,) = iam.list_roles()["Roles"][0]["AssumeRolePolicyDocument"]["Statement"]
            issuer = provider["Principal"]["Federated"].partition(":oidc-provider/")[2]
            kubectl = stack.enter_context(control_plane(tmp_path, f"https://{issuer}"))
            manager = account_client("secretsmanager", emulator)
            guard = guarded(emulator, iam, manager, kubectl.api())
            stack.enter_context(controller(kubectl, stack.enter_context(guard), tmp_path))
            kubectl(
                "apply", "--server-side", f"--filename={ENVIRONMENTS / name / 'namespaces.yaml'}"
            )
            kubectl("apply", "--server-side", f"--kustomize={ENVIRONMENTS / name / 'secrets'}")
            return Cluster(module, kubectl, manager, external_secrets(name))

        yield start


@contextmanager
def controller(kubectl: Kubectl, account: str, directory: Path) -> Iterator[None]:
    """Run External Secrets while the block runs, without its own rights in the account."""
    module = subprocess.check_output(
        [go(), "mod", "download", "-json", _MODULE], cwd=MODULES / "external-secrets"
    )
    crds = Path(json.loads(module)["Dir"]) / "config" / "crds" / "bases"
    # All files except the kustomization.
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
def test_every_secret_in_the_cluster_has_the_value_that_terraform_created(
    cluster: Callable[[str], Cluster], name: str
) -> None:
    made = cluster(name)

    made.wait_until_synced()

    assert made.secrets() == made.in_account()


def test_a_forced_sync_copies_the_rotated_value_and_the_previous_one(
    cluster: Callable[[str], Cluster],
) -> None:
    made = cluster("production")
    made.wait_until_synced()
    before = made.secrets()
    facts = made.module.path / "main.tf"
    facts.write_text(facts.read_text().replace("auth = 1", "auth = 2"))
    made.module.apply()

    made.kubectl("annotate", "externalsecrets", "--namespace=prefect", "--all", "force-sync=2")
    previous_value = documented.block("operations/rotation.md", "## The previous value", "yaml")
    made.kubectl("apply", "--filename=-", stdin=previous_value)
    made.wait_until_synced()

    rotated = made.in_account()["prefect"]["prefect-auth"]
    server = {
        **before["prefect"],
        "prefect-auth": rotated,
        "prefect-auth-previous": before["prefect"]["prefect-auth"],
    }
    assert rotated != before["prefect"]["prefect-auth"]
    wait_until(lambda: made.secrets()["prefect"] == server, _WITHIN)
    assert made.secrets() == {**before, "prefect": server}


def add_alerts(made: Cluster) -> None:
    """Bring the alerts of production into prefect-workers as docs/operations/terraform.md says."""
    facts = made.module.path / "main.tf"
    granted = "secrets = {\n    prefect-workers = [module.secrets.arns.alerts]\n"
    text = facts.read_text().replace("alerts = 0", "alerts = 1")
    facts.write_text(text.replace("secrets = {\n", granted))
    made.module.apply(alerts='{"routing-key": "of-the-alerts"}')

    folder = made.module.path.parents[2] / "k8s/environments/production/secrets/prefect-workers"
    folder.mkdir()
    documented_folder = documented.block("operations/terraform.md", "### Into the cluster", "yaml")
    (folder / "kustomization.yaml").write_text(
        documented_folder.replace("flows-default", "prefect-workers").replace("warehouse", "alerts")
    )
    (folder / "alerts.yaml").write_text(
        json.dumps(external_secret("alerts", "alerts", "routing-key"))
    )
    made.kubectl("apply", "--server-side", f"--kustomize={folder}")
    made.wait_until_synced()


def test_a_namespace_reads_the_secrets_added_to_it_and_not_those_of_another(
    cluster: Callable[[str], Cluster],
) -> None:
    made = cluster("production")
    add_alerts(made)
    before = made.secrets()
    hostile = external_secret("stolen", "auth", "auth-string")

    made.kubectl("apply", "--filename=-", stdin=json.dumps(hostile))
    error_with_own_role = made.refusal("prefect-workers", "stolen")
    made.kubectl("--namespace=prefect-workers", "delete", "externalsecret", "stolen")
    # The role for the server's namespace may read it, but trusts no account of this one.
    made.kubectl(
        *("--namespace=prefect-workers", "annotate", "--overwrite", "serviceaccount"),
        "external-secrets",
        "eks.amazonaws.com/role-arn=arn:aws:iam::123456789012:role/prefect-production-prefect-secrets",
    )
    hostile = external_secret("stolen-again", "auth", "auth-string")
    made.kubectl("apply", "--filename=-", stdin=json.dumps(hostile))
    error_with_other_role = made.refusal("prefect-workers", "stolen-again")

    assert before["prefect-workers"] == {"alerts": {"routing-key": "of-the-alerts"}}
    assert {each["metadata"]["name"]: ready_reason(each) for each in made.externals()}[
        "stolen-again"
    ] == "SecretSyncedError"
    assert "secretsmanager:GetSecretValue" in error_with_own_role
    assert "prefect-production-prefect-workers-secrets is not authorized" in error_with_own_role
    assert "may not assume" in error_with_other_role
    assert made.secrets() == before
