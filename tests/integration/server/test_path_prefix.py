"""Behind a proxy that forwards only /prefect/, everything that the server serves is below it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from prefect.server.api.server import UI_VERSION_COOKIE_NAME

from tests.integration.server.chart_environment import environment
from tests.support import servers
from tests.support.rendering import STORIES, Object, find, objects
from tests.support.requirements import require_packages

_PREFIX = "/prefect"
# Icons that the first user interface references without the prefix as well as with it.
_ICONS = {"/favicon.ico", "/favicon-dark.ico"}
_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Served:
    """A server as the chart configures it: its URL, its public URL, its container and its log."""

    url: str
    public_url: str
    container: Object
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the server with the chart's environment, and nginx in front of it."""
    require_packages("nginx-light")
    folder = tmp_path_factory.mktemp("path-prefix")
    backend, port = servers.free_ports(2)
    public_url = f"http://127.0.0.1:{port}{_PREFIX}"
    story = STORIES["server"].with_values({"publicUrl": public_url, "logFormat": "json"})
    pod = find(objects(story), "Deployment", "api")["spec"]["template"]["spec"]
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _NGINX.format(folder=folder, port=port, backend=backend, prefix=_PREFIX)
    )
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start"),
                *("--host", "127.0.0.1", "--port", str(backend)),
            ],
            env=environment(pod["containers"][0], folder),
            stdout=output,
            stderr=output,
        )
        proxy = subprocess.Popen(
            ["/usr/sbin/nginx", "-c", configuration, "-e", folder / "nginx.log"],
            stdout=output,
            stderr=output,
        )
    try:
        servers.wait_for(server, partial(servers.listening, backend), log)
        servers.wait_for(proxy, partial(servers.listening, port), folder / "nginx.log")
        yield Served(f"http://127.0.0.1:{backend}", public_url, pod["containers"][0], log)
    finally:
        for process in (proxy, server):
            process.terminate()
            process.wait()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_each_user_interface_loads_below_the_prefix(served: Served, version: str) -> None:
    with httpx.Client(follow_redirects=True, headers={"accept": "text/html"}) as browser:
        browser.cookies.set(UI_VERSION_COOKIE_NAME, version)
        index = browser.get(f"{served.public_url}/").raise_for_status()
        references = re.findall(r'\b(?:src|href)="(/[^"]*)"', index.text)
        scripts = re.findall(r'\bsrc="(/[^"]*\.js)"', index.text)
        loaded = [
            browser.get(urljoin(str(index.url), script)).raise_for_status() for script in scripts
        ]

    assert all(str(step.url).startswith(served.public_url) for step in [*index.history, index])
    outside = {each for each in references if not each.startswith(f"{_PREFIX}/")}
    assert outside <= _ICONS
    assert loaded
    for script in loaded:
        assert "javascript" in script.headers["content-type"]
        assert "REPLACE_PLACEHOLDER" not in script.text


def test_the_user_interface_gets_an_api_url_that_works_through_the_proxy(served: Served) -> None:
    settings = httpx.get(f"{served.public_url}/ui-settings").raise_for_status().json()
    api = urljoin(f"{served.public_url}/", settings["api_url"])

    assert api.startswith(served.public_url)
    assert httpx.get(f"{api}/health").raise_for_status().json() is True


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_every_probe_requests_a_path_that_the_server_answers(served: Served, probe: str) -> None:
    path = served.container[probe]["httpGet"]["path"]

    assert httpx.get(f"{served.url}{path}").is_success


def test_the_files_of_the_user_interface_fit_twice_into_their_volume(served: Served) -> None:
    # Twice, because the old files may still be there while a new release writes its own.
    written = sum(file.stat().st_size for file in (served.log.parent / "ui").rglob("*"))

    assert 0 < 2 * written < 64 * 2**20


def test_the_log_of_the_server_and_its_services_is_json(served: Served) -> None:
    httpx.get(f"{served.public_url}/api/health").raise_for_status()
    lines = served.log.read_text().splitlines()
    # Prefect prints its banner, and uvicorn its first lines, before either reads the setting.
    first = next(number for number, line in enumerate(lines) if line.startswith("{"))
    loggers = {json.loads(line)["name"] for line in lines[first:]}

    assert "uvicorn.access" in loggers
    assert any(name.startswith("prefect.server.services.") for name in loggers)
