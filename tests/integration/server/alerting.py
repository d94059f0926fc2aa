"""Run Prefect's server as the chart configures it in each mode, with automations that notify."""

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.integration.server.redis_server import redis_server
from tests.support import servers
from tests.support.postgres import prefect_database
from tests.support.rendering import STORIES, Object, find, objects

_AUTH = "admin:of-the-tests"
_REDIS_PASSWORD = "of-redis"
_REDIS = re.compile(r"redis://:\$\(REDIS_PASSWORD\)@[^/]+")
# Shortens the waits between attempts, which are minutes by default. Prefect is imported first,
# because it loads the plugin.
_SCHEDULE = """
import prefect
from prefect_platform.plugins import notification_delivery
notification_delivery.WAITS = {waits!r}
"""
_API = """
import sys
from prefect.cli import app
sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", "{port}", *{options!r}]
app()
"""
_SERVICES = """
from prefect_platform.server import background_services
background_services._PORT = {port}
background_services.main()
"""


def environment(
    component: str, story: str, home: Path, redis_port: int, **more: str
) -> dict[str, str]:
    """Return the chart's plain variables, with secrets, Redis and database of the test."""
    container: Object = find(objects(STORIES[story]), "Deployment", component)["spec"]["template"][
        "spec"
    ]["containers"][0]
    redis = f"redis://:{_REDIS_PASSWORD}@127.0.0.1:{redis_port}"
    rendered = {
        variable["name"]: _REDIS.sub(redis, variable["value"])
        for variable in container["env"]
        if "value" in variable
        and not variable["name"].startswith(("PREFECT_SERVER_DATABASE_", "PREFECT_HOME"))
    }
    assert "$(" not in "".join(rendered.values())
    return servers.clean_environment(
        home,
        **rendered,
        PREFECT_SERVER_API_AUTH_STRING=_AUTH,
        **more,
    )


@dataclass
class Platform:
    """A running server, and what tests do with it."""

    api_url: str
    log: Path
    redis_url: str | None = None
    services: "Services | None" = None

    def client(self) -> httpx.Client:
        user, _, password = _AUTH.partition(":")
        return httpx.Client(base_url=self.api_url, auth=(user, password), timeout=60)

    def save(self, block: Block, name: str) -> str:
        """Save the block and return the id of its document."""
        settings = {PREFECT_API_URL: self.api_url, PREFECT_API_AUTH_STRING: _AUTH}
        with temporary_settings(settings):
            return str(block.save(name, overwrite=True))

    def automation(self, name: str, *blocks: str, subject: str = "", body: str = "") -> str:
        """Create an automation that notifies by all `blocks` on each event `test.NAME`.

        Returns its id.
        """
        texts = {
            "subject": subject or "{{ automation.name }}",
            "body": body or "{{ event.resource.name }}",
        }
        return self._automation(
            name,
            [
                {"type": "send-notification", "block_document_id": block, **texts}
                for block in blocks
            ],
        )

    def calling(self, name: str, block: str) -> str:
        """Create an automation that calls a webhook on each event `test.NAME`; return its id."""
        action = {"type": "call-webhook", "block_document_id": block, "payload": "{}"}
        return self._automation(name, [action])

    def _automation(self, name: str, actions: list[dict[str, str]]) -> str:
        automation = {
            "name": name,
            "trigger": {
                "type": "event",
                "posture": "Reactive",
                "expect": [f"test.{name}"],
                "threshold": 1,
                "within": 0,
            },
            "actions": actions,
        }
        with self.client() as client:
            answer = client.post("/automations/", json=automation).raise_for_status()
        return str(answer.json()["id"])

    def fire(self, automation: str, resource: str = "overjoyed-ladybug", *, times: int = 1) -> None:
        """Trigger the automation `times` times.

        Events are sent again until they trigger it, because the services ignore those that arrive
        before they know the automation.
        """
        with self.client() as client:
            name = client.get(f"/automations/{automation}").json()["name"]
            already = len(self.events(automation, "triggered"))
            while len(self.events(automation, "triggered")) == already:
                events = [_event(f"test.{name}", resource) for _ in range(times)]
                client.post("/events", json=events).raise_for_status()
                self._wait(automation, "triggered", already + times, seconds=60)
        assert len(self.events(automation, "triggered")) == already + times

    def events(self, automation: str, what: str) -> list[dict[str, Any]]:
        """Return the events `prefect.automation.WHAT` of an automation."""
        query = {
            "filter": {
                "event": {"name": [f"prefect.automation.{what}"]},
                "resource": {"id": [f"prefect.automation.{automation}"]},
            },
            "limit": 50,
        }
        with self.client() as client:
            answer = client.post("/events/filter", json=query).raise_for_status()
        return list(answer.json()["events"])

    def wait_for(self, automation: str, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are `count` events, and return them."""
        events = self._wait(automation, what, count, seconds=120)
        assert len(events) >= count, f"{len(events)} of {count} {what}\n{self.log.read_text()}"
        return events

    def wait_for_log(self, words: str) -> None:
        """Wait until the log contains `words`, no matter where its lines are wrapped."""
        Retrying(
            retry=retry_if_result(lambda text: words not in text),
            stop=stop_after_delay(60),
            wait=wait_fixed(0.2),
        )(lambda: " ".join(self.log.read_text().split()))

    def _wait(self, automation: str, what: str, count: int, seconds: int) -> list[dict[str, Any]]:
        return Retrying(
            retry=retry_if_result(lambda events: len(events) < count),
            stop=stop_after_delay(seconds),
            wait=wait_fixed(0.2),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else [],
        )(self.events, automation, what)


def _event(name: str, resource: str) -> dict[str, object]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": "2013-01-01T00:00:00Z",
        "event": name,
        "resource": {"prefect.resource.id": "test.resource", "prefect.resource.name": resource},
    }


class Services:
    """The background services as a process that can be killed and started again."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log

    def start(self, waits: Sequence[float]) -> None:
        (self._port,) = servers.free_ports(1)
        program = _SCHEDULE.format(waits=tuple(waits)) + _SERVICES.format(port=self._port)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program], env=self._environment, stdout=log, stderr=log
            )
        servers.wait_for(self.process, partial(servers.listening, self._port), self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def _api(
    environment: dict[str, str], log: Path, waits: Sequence[float], *options: str
) -> Iterator[str]:
    (port,) = servers.free_ports(1)
    program = _SCHEDULE.format(waits=tuple(waits)) + _API.format(port=port, options=options)
    with log.open("ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=output, stderr=output
        )
    try:
        servers.wait_for(server, partial(servers.listening, port), log)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def single(home: Path, waits: Sequence[float], **variables: str) -> Iterator[Platform]:
    """Start PostgreSQL and the server of mode single."""
    log = home / "log"
    with (
        prefect_database() as database,
        _api(environment("api", "server", home, 0, **database, **variables), log, waits) as url,
    ):
        yield Platform(url, log)


@contextmanager
def high_availability(home: Path, waits: Sequence[float], **variables: str) -> Iterator[Platform]:
    """Start the API, the background services, Redis and PostgreSQL of mode ha."""
    log = home / "log"
    with ExitStack() as stack:
        variables |= stack.enter_context(prefect_database())
        redis_port = stack.enter_context(redis_server(home, _REDIS_PASSWORD))
        api = environment("api", "server-ha", home, redis_port, **variables)
        url = stack.enter_context(_api(api, log, waits, "--no-services"))
        services = Services(
            environment("services", "server-ha", home, redis_port, **variables), log
        )
        services.start(waits)
        stack.callback(services.kill)
        yield Platform(url, log, f"redis://:{_REDIS_PASSWORD}@127.0.0.1:{redis_port}/0", services)
