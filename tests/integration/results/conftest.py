"""A Prefect server and an object store with the identities of the local environment."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from mypy_boto3_s3 import S3Client

from prefect_platform_cli.deploy.secrets import s3_identities
from tests.integration.results.locks_redis import deployed
from tests.integration.results.pods import BLOCK, Pods
from tests.support import servers
from tests.support.postgres import prefect_database

ADMIN = {"access-key-id": servers.ACCESS_KEY, "secret-access-key": servers.SECRET_KEY}
POOL = {"access-key-id": "pool-default", "secret-access-key": "of-the-pool"}
OTHER = {"access-key-id": "pool-other", "secret-access-key": "of-the-other"}


@dataclass
class Store:
    """A running object store, and the environment variables of its administrator."""

    process: "subprocess.Popen[bytes]"
    variables: dict[str, str]

    def client(self, keys: dict[str, str] = ADMIN) -> S3Client:
        """Return an S3 client with `keys`."""
        client: S3Client = boto3.Session().client(
            "s3",
            endpoint_url=self.variables["AWS_ENDPOINT_URL_S3"],
            region_name=self.variables["AWS_REGION"],
            aws_access_key_id=keys["access-key-id"],
            aws_secret_access_key=keys["secret-access-key"],
        )
        return client


def key_variables(keys: dict[str, str]) -> dict[str, str]:
    """Return the environment variables that give a pod its access key."""
    return {
        "AWS_ACCESS_KEY_ID": keys["access-key-id"],
        "AWS_SECRET_ACCESS_KEY": keys["secret-access-key"],
    }


@contextmanager
def running_store(directory: Path) -> Iterator[Store]:
    """Start an object store in `directory`, with the buckets of the local environment."""
    identities = s3_identities(ADMIN, {"default": POOL, "other": OTHER})
    with servers.object_store_process(directory, identities) as (process, variables):
        store = Store(process, variables)
        existing = {each["Name"] for each in store.client().list_buckets()["Buckets"]}
        for bucket in {"raw", "results", "artifacts"} - existing:
            store.client().create_bucket(Bucket=bucket)
        yield store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with deployed(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@contextmanager
def running_pods(store: Store, server: Path, directory: Path) -> Iterator[Pods]:
    """Start a Prefect server with PostgreSQL, and save the block for the results of the pods."""
    with prefect_database() as settings, servers.prefect_server(server, **settings) as api:
        variables = {
            "PREFECT_API_URL": api,
            "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": BLOCK,
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_PLUGINS_ENABLED": "true",
            "PREFECT_PLUGINS_ALLOW": "result-writes",
            "RESULT_WRITE_SECONDS": "3",
        }
        pods = Pods(api, directory, store.variables | key_variables(POOL) | variables)
        pods.configure()
        yield pods


@pytest.fixture(scope="session")
def pods(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    server, directory = (tmp_path_factory.mktemp(name) for name in ("prefect-server", "pods"))
    with running_pods(store, server, directory) as pods:
        yield pods
