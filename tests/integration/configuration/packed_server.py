"""A real Prefect server with the automation pack, a receiver of its alerts, and flow runs."""

import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.orchestration.routes import ServerRoutes
from prefect.client.schemas.actions import StateCreate
from prefect.client.schemas.objects import State
from prefect.events import Event

from prefect_platform.configuration.automations.alerts import expand
from prefect_platform.configuration.core.prefect_api import prefect_api
from prefect_platform.configuration.core.source import read
from prefect_platform.polling import wait_until
from prefect_platform.reaper.pass_report import PassReport
from tests.support.postgres import prefect_database
from tests.support.servers import clean_environment, free_ports, prefect_server

# The minimum that Prefect accepts, in seconds; states and events arrive much faster.
BOUND = 10
UI = "http://prefect.example"
# Seconds to wait for a state, event or alert, because the machine may be busy.
TIMEOUT = 90.0

_FILE = f"""
alerts:
  channels:
    hook: {{type: webhook, url: "http://127.0.0.1:%d/alerts"}}
    dead: {{type: slack, url: "json://127.0.0.1:%d/"}}
  severities:
    critical: [dead, hook]
    warning: [hook]
  automations:
    stuck-pending: {{within: {BOUND}}}
    late: {{within: {BOUND}}}
    work-pool-not-ready: {{within: {BOUND}}}
"""
_FLOWS = """
from prefect import flow


@flow
def limited():
    pass
"""


@dataclass(frozen=True)
class Alert:
    """An alert as a channel received it."""

    subject: str
    body: str


@dataclass
class Receiver:
    """An HTTP server that records the alerts that it is sent."""

    alerts: list[Alert] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def about(self, words: str) -> list[Alert]:
        """Return all alerts so far that contain `words`."""
        with self.arrived:
            return [each for each in self.alerts if words in each.subject or words in each.body]

    def wait_for(self, words: str) -> Alert:
        """Return the first alert that contains `words`, once it has arrived."""
        with self.arrived:
            found = self.arrived.wait_for(lambda: self.about(words), timeout=TIMEOUT)
            assert found, f"no alert contains {words!r}: {self.alerts}"
        return self.about(words)[0]


@dataclass(frozen=True)
class Run:
    """A flow run; `origin` names its deployment, or its flow if it has no deployment."""

    id: str
    name: str
    origin: str

    @property
    def last_lines(self) -> str:
        """Return the command and the link at the end of an alert about the run."""
        selector = f"prefect.io/flow-run-id={self.id}"
        return (
            f"kubectl describe jobs,pods --all-namespaces --selector {selector}\n"
            f"{UI}/runs/flow-run/{self.id}"
        )


@dataclass
class PackedServer:
    """A server with the automation pack, and the operations that tests need."""

    url: str
    client: SyncPrefectClient
    receiver: Receiver
    home: Path

    def deployment(self, flow: str, **more: str | int | dict[str, str]) -> str:
        """Create a deployment of a flow, such as one of _FLOWS; return its id."""
        flow_id = self._post("/flows/", {"name": flow})["id"]
        entrypoint = {"path": str(self.home), "entrypoint": f"flows.py:{flow}"}
        body: dict[str, Any] = {"name": "daily", "flow_id": flow_id, **entrypoint, **more}
        return str(self._post("/deployments/", body)["id"])

    def run_of(self, deployment: str, state: State | None = None) -> Run:
        """Create a run of a deployment, Scheduled unless another state is given."""
        body = {"state": _create(state) if state else None}
        made = self.client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": deployment},
            json=body,
        ).json()
        flow = self.client.request("GET", "/flows/{id}", path_params={"id": made["flow_id"]})
        return Run(made["id"], made["name"], f"{flow.json()['name']}/daily")

    def new_run(self, *states: State) -> Run:
        """Create a run of a new deployment, and take it through `states`."""
        run = self.run_of(self.deployment(f"flow-{uuid.uuid4().hex[:8]}"))
        self.take(run, *states)
        return run

    def run_without_deployment(self, *states: State) -> Run:
        """Create a run like that of a flow called from Python, and take it through `states`."""
        flow_id = self._post("/flows/", {"name": "called"})["id"]
        made = self._post("/flow_runs/", {"flow_id": flow_id})
        run = Run(made["id"], made["name"], "called")
        self.take(run, *states)
        return run

    def take(self, run: Run, *states: State) -> list[dict[str, Any]]:
        """Propose states for a run as its process or a worker does; return the answers."""
        return [
            self.client.request(
                "POST",
                "/flow_runs/{id}/set_state",
                path_params={"id": run.id},
                json={"state": _create(state)},
            ).json()
            for state in states
        ]

    def state(self, run: Run) -> str:
        """Return the name of the run's state."""
        answer = self.client.request("GET", "/flow_runs/{id}", path_params={"id": run.id})
        return str(answer.json()["state_name"])

    def await_state(self, run: Run, name: str) -> None:
        """Wait until the run is in the state `name`."""
        assert wait_until(lambda: self.state(run) == name, TIMEOUT), self.state(run)

    def emit(self, *events: Event) -> None:
        """Send events as a client does, in one request."""
        self.client.request(
            "POST", "/events", json=[each.model_dump(mode="json") for each in events]
        )

    def name_silent(self, run: Run) -> None:
        """Name a run as the reaper does."""
        report = PassReport("default", dry_run=False)
        report.name_silent(self.client.read_flow_run(uuid.UUID(run.id)), "10 min")
        self.emit(*report.silent)

    @contextmanager
    def process(self, run: Run, *program: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Start the engine, or `program`, for a run as a job pod does; it is killed at the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", *(program or ("prefect.engine",))],
            env=clean_environment(
                self.home,
                PREFECT_API_URL=self.url,
                PREFECT__FLOW_RUN_ID=run.id,
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
            ),
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _post(self, route: ServerRoutes, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.request("POST", route, json=body).json()
        return answer


def _create(state: State) -> dict[str, Any]:
    body = StateCreate(type=state.type, name=state.name, message=state.message)
    details = state.state_details.model_dump(mode="json", exclude_unset=True)
    return {**body.model_dump(mode="json", exclude={"state_details"}), "state_details": details}


@contextmanager
def packed_server(home: Path) -> Iterator[PackedServer]:
    """Start PostgreSQL, a Prefect server and the receiver, and apply the pack."""
    (home / "flows.py").write_text(_FLOWS)
    with prefect_database() as database, _receiver() as (receiver, own_port):
        settings = {
            **database,
            "PREFECT_UI_URL": f"{UI}/",
            "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "1",
        }
        (dead_port,) = free_ports(1)
        (home / "platform.yaml").write_text(_FILE % (own_port, dead_port))
        with prefect_server(home, **settings) as url, prefect_api(url, None) as client:
            server = PackedServer(url, client, receiver, home)
            _apply(client, home / "platform.yaml")
            yield server


def _apply(client: SyncPrefectClient, path: Path) -> None:
    made = expand(read(path), "alerts").data
    classes = {"custom-webhook": CustomWebhookNotificationBlock, "slack-webhook": SlackWebhook}
    ids = {}
    for block, fields in made["blocks"].items():
        block_type, _, name = block.partition("/")
        ids[block] = str(classes[block_type](**fields).save(name))
    for name, automation in made["automations"].items():
        body = {"name": name, **automation, "actions": [*automation["actions"]]}
        body["actions"] = [
            {**action, "block_document_id": ids[action["block"]]} if "block" in action else action
            for action in automation["actions"]
        ]
        client.request("POST", "/automations/", json=body)


@contextmanager
def _receiver() -> Iterator[tuple[Receiver, int]]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with receiver.arrived:
                receiver.alerts.append(Alert(**content))
                receiver.arrived.notify_all()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver, server.server_address[1]
        server.shutdown()
