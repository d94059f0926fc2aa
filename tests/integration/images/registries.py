"""Real registries on loopback, with and without a password."""

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from prefect_platform_cli.host.toolchain import tool
from tests.integration.images.contained import Store
from tests.support.servers import free_ports

USER, PASSWORD = "tests", "of-the-registry"
_HTPASSWD = f"{USER}:$2b$04$SpZpThBWSoeyHtTTjRgMheWSQg6kBnYi6KSeKfBXw6xzvx/UY1HQu\n"


@contextmanager
def running(folder: Path, *, password: bool = False) -> Iterator[str]:
    """Run a registry whose files are in `folder`; yield its host and port."""
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    configuration: dict[str, object] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": f"{folder}/images"}},
        "http": {"addr": host},
    }
    if password:
        (folder / "htpasswd").write_text(_HTPASSWD)
        configuration["auth"] = {"htpasswd": {"realm": "tests", "path": f"{folder}/htpasswd"}}
    (folder / "configuration.yml").write_text(json.dumps(configuration))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [tool("registry"), "serve", folder / "configuration.yml"], stdout=log, stderr=log
        ) as process,
    ):
        try:
            _answers(host)
            yield host
        finally:
            process.terminate()


@retry(
    retry=retry_if_exception_type(httpx.TransportError),
    wait=wait_fixed(0.1),
    stop=stop_after_delay(60),
    reraise=True,
)
def _answers(host: str) -> None:
    httpx.get(f"http://{host}/v2/")


def log_in(host: str, password: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Log in to `host` in this process alone; return the file with the credentials."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    file = folder / "auth.json"
    file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    return file


def publish(store: Store, name: str, content: str, *options: str, index: bool = False) -> str:
    """Push an image with the file /content as `name`, alone or in an index; return the digest."""
    context = store.folder / "context"
    context.mkdir(exist_ok=True)
    (context / "content").write_text(content)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY content /content\n")
    built = f"localhost/{uuid4().hex}"
    digest = context / "digest"
    store.buildah("bud", *options, f"--tag={built}", str(context))
    to = ("--tls-verify=false", f"--digestfile={digest}")
    if index:
        store.buildah("manifest", "create", f"{built}-index", built)
        store.buildah("manifest", "push", "--all", *to, f"{built}-index", f"docker://{name}")
    else:
        store.buildah("push", *to, built, f"docker://{name}")
    return digest.read_text()
