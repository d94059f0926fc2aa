"""OpenTofu with the AWS provider, and real servers: SeaweedFS, and moto's emulator of AWS.

TERRAFORM_PLUGINS names a folder with the real provider, in the layout of `tofu providers mirror`.
If it is not set, the tests use the stand-in provider in `tests/terraform/plugin.py`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool
from tests.support import servers
from tests.terraform import root_module
from tests.terraform.clients import Client, client
from tests.terraform.root_module import RootModule

STATE = "example-prefect-terraform"  # the bucket of the environments' states
STAND_IN = "6.25.0"  # the version of the real provider whose names it uses


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of providers for `tofu init`."""
    real = os.environ.get("TERRAFORM_PLUGINS")
    if real:
        return Path(real)
    folder = tmp_path_factory.mktemp("plugins")
    printed = subprocess.check_output(
        [tool("tofu"), "version", "-json"], env=servers.clean_environment(folder)
    )
    platform = json.loads(printed)["platform"]
    program = folder / f"registry.opentofu.org/hashicorp/aws/{STAND_IN}/{platform}"
    program.mkdir(parents=True)
    program /= "terraform-provider-aws"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH='{REPOSITORY}' exec '{sys.executable}' -m tests.terraform.plugin\n"
    )
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def emulator_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start moto's server and yield its URL."""
    (port,) = servers.free_ports(1)
    with running_emulator(port, tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


@contextmanager
def running_emulator(port: int, log: Path, **variables: str) -> Iterator[str]:
    """Run moto's server with additional environment `variables`; yield its URL."""
    moto = Path(sys.executable).with_name("moto_server")
    command = (moto, "--host", "127.0.0.1", "--port", str(port))
    with servers.running(log, port, *command, env={**os.environ, **variables}):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def emulator(emulator_server: str) -> str:
    """Return the URL of moto's server, which is empty."""
    httpx.post(f"{emulator_server}/moto-api/reset").raise_for_status()
    return emulator_server


@pytest.fixture(scope="session")
def object_store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start SeaweedFS and yield the URL of its S3 interface."""
    with servers.object_store(tmp_path_factory.mktemp("seaweedfs")) as variables:
        yield variables["AWS_ENDPOINT_URL_S3"]


@pytest.fixture
def s3(object_store_server: str) -> Client:
    """Return a client of SeaweedFS, which is empty."""
    found = client("s3", object_store_server, (servers.ACCESS_KEY, servers.SECRET_KEY))
    for bucket in found.list_buckets()["Buckets"]:
        for item in found.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            found.delete_object(Bucket=bucket["Name"], Key=item["Key"])
        found.delete_bucket(Bucket=bucket["Name"])
    return found


@pytest.fixture
def issuer(emulator: str) -> str:
    """Create a cluster's identity provider in the emulator; return the URL of its issuer."""
    url = "https://oidc.example.org/id/EXAMPLE"
    client("iam", emulator).create_open_id_connect_provider(Url=url, ThumbprintList=["0" * 40])
    return url


@pytest.fixture
def local(
    initialised: Callable[..., RootModule],
    s3: Client,
    emulator: str,
    issuer: str,
) -> RootModule:
    """Return the local environment, ready to be applied to the test's own servers."""
    return initialised(
        "environments/local",
        TF_VAR_object_store=s3.meta.endpoint_url,
        TF_VAR_emulator=emulator,
        TF_VAR_oidc_issuer=issuer,
        AWS_ACCESS_KEY_ID=servers.ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=servers.SECRET_KEY,
    )


@pytest.fixture
def initialised(tmp_path: Path, plugins: Path) -> Callable[..., RootModule]:
    """Return a function that copies terraform/ and initialises one of its folders.

    Keyword arguments are additional environment variables of OpenTofu.
    """

    def initialise(folder: str, *options: str, **environment: str) -> RootModule:
        (tmp_path / "home").mkdir()
        module = RootModule(
            root_module.copy(tmp_path) / folder,
            {
                **servers.clean_environment(tmp_path / "home"),
                "AWS_EC2_METADATA_DISABLED": "true",
                "TF_CLI_ARGS": "-no-color",
                "TF_DISABLE_PLUGIN_TLS": "true",  # the stand-in speaks plain gRPC on its socket
                "TF_INPUT": "false",
                **environment,
            },
        )
        module.run("init", f"-plugin-dir={plugins}", *options)
        return module

    return initialise


@pytest.fixture
def account(emulator: str) -> dict[str, str]:
    """Return the environment variables for an account with the state bucket and both clusters."""
    iam = account_client("iam", emulator)
    for cluster in ("EXAMPLE1", "EXAMPLE2"):
        url = f"https://oidc.eks.eu-central-1.amazonaws.com/id/{cluster}"
        iam.create_open_id_connect_provider(Url=url, ThumbprintList=["0" * 40])
    account_client("s3", emulator).create_bucket(
        Bucket=STATE, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return {
        **{
            f"AWS_ENDPOINT_URL_{service}": emulator
            for service in ("S3", "IAM", "STS", "SECRETS_MANAGER")
        },
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
    }


def account_client(service: str, emulator: str) -> Client:
    """Return a client for the account, in the region of the environments."""
    return client(service, emulator, region="eu-central-1")


@pytest.fixture
def environment(
    initialised: Callable[..., RootModule], account: dict[str, str]
) -> Callable[[str], RootModule]:
    """Return a function that initialises an environment in the account."""

    def initialise(name: str) -> RootModule:
        module = initialised(
            f"environments/{name}", "-backend-config=use_path_style=true", **account
        )
        # The emulator does not have a host name for each bucket.
        (module.path / "emulator_override.tf").write_text(
            'provider "aws" {\n  s3_use_path_style = true\n}\n'
        )
        return module

    return initialise
