"""A browser shows both user interfaces under the server's own policy, and asks no other host."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import httpx
import pytest

from prefect_platform.plugins.security_headers import security_headers
from tests.integration.server.chart_environment import environment
from tests.support import servers
from tests.support.browser import Page, browser
from tests.support.rendering import STORIES, find, objects

_USER, _PASSWORD = "admin", "of-the-tests"
_FOREIGN = "https://elsewhere.example"
_ANALYTICS = ("connect-src", "https://sr-client-cfg.amplitude.com")
# What the policy is there to refuse: analytics, and the logos of block types.
_REFUSED = {
    _ANALYTICS,
    ("img-src", "https://raw.githubusercontent.com"),
    ("img-src", "https://images.ctfassets.net"),
}
_PAGES = {
    "dashboard": "document.body.innerText.includes('Flow Runs')",
    "runs": "document.body.innerText.includes('quiet-otter')",
    "runs/flow-run/{run}": "document.querySelector('canvas')",  # the graph has been drawn
    "deployments": "document.body.innerText.includes('nightly')",
    "blocks": "document.body.innerText.includes('our-token')",
    "blocks/catalog": "document.body.innerText.includes('AWS Credentials')",
    "automations": "document.body.innerText.includes('tell-us')",
    "work-pools": "document.body.innerText.includes('our-pool')",
}


@dataclass(frozen=True)
class Served:
    """A server as the chart configures it: its origin, its URL, and a flow run."""

    origin: str
    url: str
    run: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the server with the chart's environment, and create an object of each page."""
    folder = tmp_path_factory.mktemp("security-headers")
    (port,) = servers.free_ports(1)
    origin = f"http://127.0.0.1:{port}"
    story = STORIES["server"].with_values({"publicUrl": f"{origin}/prefect"})
    pod = find(objects(story), "Deployment", "api")["spec"]["template"]["spec"]
    own = {
        "PREFECT_SERVER_API_AUTH_STRING": f"{_USER}:{_PASSWORD}",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # the services write to the same SQLite file
    }
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            env=environment(pod["containers"][0], folder, **own),
            stdout=output,
            stderr=output,
        )
    try:
        servers.wait_for(server, partial(servers.listening, port), log)
        yield Served(origin, f"{origin}/prefect", _create_objects(f"{origin}/prefect/api"))
    finally:
        server.terminate()
        server.wait()


def _create_objects(url: str) -> str:
    """Create what the pages show, and return the id of the flow run."""
    with servers.api_client(url) as api:
        api.auth = httpx.BasicAuth(_USER, _PASSWORD)

        def create(path: str, **fields: object) -> str:
            identifier: str = api.post(path, json=fields).json()["id"]
            return identifier

        flow = create("/flows/", name="etl")
        running = {"type": "RUNNING", "name": "Running"}
        run = create("/flow_runs/", flow_id=flow, name="quiet-otter", state=running)
        task = {"task_key": "extract", "dynamic_key": "0", "name": "extract-0", "state": running}
        create("/task_runs/", flow_run_id=run, **task)
        create("/deployments/", flow_id=flow, name="nightly")
        create("/work_pools/", name="our-pool", type="kubernetes")
        trigger = {"type": "event", "expect": ["never"], "posture": "Reactive", "threshold": 1}
        create("/automations/", name="tell-us", trigger=trigger, actions=[{"type": "do-nothing"}])
        secret = api.get("/block_types/slug/secret").json()["id"]
        by_type = {"block_schemas": {"block_type_id": {"any_": [secret]}}}
        (schema, *_) = api.post("/block_schemas/filter", json=by_type).json()
        create(
            "/block_documents/",
            name="our-token",
            data={"value": "hidden"},
            block_type_id=secret,
            block_schema_id=schema["id"],
        )
        return run


@pytest.fixture(scope="module")
def page(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Start a browser that has logged in, which counts for both user interfaces."""
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        tab.open(f"{served.url}/v2/login", "document.querySelector('input[type=password]')")
        tab.value("document.querySelector('input[type=password]').focus()")
        tab.type(f"{_USER}:{_PASSWORD}")
        tab.wait_for("document.body.innerText.includes('Logout')")
        yield tab


@pytest.mark.parametrize("path", _PAGES)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_page_loads_under_the_policy_and_asks_no_other_host(
    served: Served, page: Page, version: str, path: str
) -> None:
    base = served.url if version == "v1" else f"{served.url}/v2"

    page.open(f"{base}/{path.format(run=served.run)}", _PAGES[path])

    assert page.sent == {served.origin}
    assert page.violations <= _REFUSED
    assert page.errors == []


def test_the_browser_refuses_to_call_the_analytics_service(served: Served, page: Page) -> None:
    page.open(f"{served.url}/v2/dashboard", _PAGES["dashboard"])

    assert _ANALYTICS in page.violations


@pytest.mark.parametrize("path", ["/", "/v2/", "/api/health", "/api/admin/version", "/api/nothing"])
def test_every_response_has_the_headers(served: Served, path: str) -> None:
    answer = httpx.get(f"{served.url}{path}")

    for name, value in security_headers(""):
        assert answer.headers.get_list(name.decode()) == [value.decode()]


def test_no_foreign_origin_may_read_the_api(served: Served) -> None:
    asks = {"Origin": _FOREIGN, "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{served.url}/api/flow_runs/filter", headers=asks)
    answer = httpx.get(f"{served.url}/api/health", headers={"Origin": _FOREIGN})

    assert preflight.status_code == httpx.codes.BAD_REQUEST
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in answer.headers


def test_the_origin_of_the_user_interface_may_read_the_api(served: Served) -> None:
    answer = httpx.get(f"{served.url}/api/health", headers={"Origin": served.origin})

    assert answer.headers["access-control-allow-origin"] == served.origin
