"""Each failure in the cluster is reported once to the right channels, with its run and cause.

All failures are real: a killed or frozen process in a job pod, too little memory, a missing image,
no node with room for the pod, a paused pool. Alerts are sent to the host names of Slack, Teams and
PagerDuty, and to a mail server by SMTP.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun

from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.paths import REPOSITORY
from tests.cluster.alert_receivers import (
    MAIL,
    NAMESPACE,
    PAGERDUTY,
    SLACK,
    TEAMS,
    WEBHOOK,
    Receivers,
    receivers,
)
from tests.cluster.cronjobs import run_now
from tests.cluster.deployed import (
    JOBS,
    SMALL,
    Platform,
    command,
    deploy_code,
    eventually,
    in_parallel,
    put_secret,
)
from tests.cluster.ha_server import Server

pytestmark = pytest.mark.timeout(600)  # an alert may take 300 s, after a rollout of the server

_AUTHORITY = "/etc/test-authority/ca.crt"
_FLOW = """
import os, signal, time
from prefect import flow

@flow
def {name}(how: str = "well"):
    time.sleep(8)  # until the first heartbeat is sent
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "frozen":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "hungry":
        bytearray(4 << 30)[::4096]
"""
_ALERTS = {
    "channels": {
        "ops": {"type": "slack", "url": {"secret": {"name": "alerts", "key": "slack-url"}}},
        "team": {"type": "teams", "url": {"secret": {"name": "alerts", "key": "teams-url"}}},
        "oncall": {
            "type": "pagerduty",
            "integration_key": {"secret": {"name": "alerts", "key": "routing-key"}},
            "api_key": {"secret": {"name": "alerts", "key": "api-key"}},
        },
        "mail": {
            "type": "email",
            "host": MAIL,
            "port": 25,
            "sender": "prefect@example.org",
            "recipients": ["oncall@example.org"],
            "ca_file": _AUTHORITY,
        },
        "dead": {"type": "webhook", "url": f"https://{WEBHOOK}:9/nobody-listens"},
    },
    "severities": {"critical": ["dead", "oncall", "mail"], "warning": ["ops", "team"]},
    "automations": {"work-pool-not-ready": {"within": 10}},
}
_SECRET = {
    "slack-url": "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "teams-url": (
        f"https://{TEAMS}:443/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke"
        "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=c2lnbmF0dXJl"
    ),
    "routing-key": "0123456789abcdef0123456789abcdef",
    "api-key": "fedcba9876543210fedcba9876543210",
}
_CHANNELS = {SLACK: "slack", TEAMS: "teams", PAGERDUTY: "pagerduty", "mail": "mail"}


@dataclass(frozen=True)
class Case:
    """A run and its expected alerts: for each channel, a phrase of the message."""

    how: str
    variables: dict[str, str]
    alerts: dict[str, str]


_CASES = {
    "well": Case("well", {}, {}),
    "killed": Case("killed", {}, {"pagerduty": "crashed", "mail": "crashed"}),
    "hungry": Case(
        "hungry", {"memory_limit": "400Mi"}, {"pagerduty": "OOMKilled", "mail": "out of memory"}
    ),
    "imageless": Case(
        "well",
        {"image": "prefect-platform.local/flows:missing"},
        {"pagerduty": "ImagePullError", "mail": "cannot pull the image"},
    ),
    "huge": Case(
        "well",
        {"cpu_request": "64"},
        {"slack": "no node has room", "teams": "no node has room"},
    ),
    # The last one, because the run has to be silent for a while.
    "frozen": Case("frozen", {}, {"slack": "left alone", "teams": "sends no heartbeats"}),
}


class Alerted:
    """The platform with alert channels, and the receivers of their messages."""

    def __init__(self, platform: Platform, received: Receivers) -> None:
        self.platform = platform
        self._received = received

    def messages(self, about: str) -> dict[str, list[dict[str, object]]]:
        """Return the messages that name a run or a pool, by channel."""
        found: dict[str, list[dict[str, object]]] = {}
        for line in self._received.received():
            if about in json.dumps(line):
                found.setdefault(_CHANNELS[line["host"]], []).append(line)
        return found

    def first(self, about: str) -> float:
        """Return when the first message that names it arrived, in seconds since the epoch."""
        return min(
            float(str(message["at"]))
            for messages in self.messages(about).values()
            for message in messages
        )


@pytest.fixture(scope="module")
def alerted(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerted]:
    """Configure channels that send to receivers in the cluster, and remove them at the end."""
    folder = tmp_path_factory.mktemp("alerts")
    kubectl = platform.kubectl
    core = kubernetes_client.CoreV1Api(kubectl.api())
    worker = core.list_namespaced_pod(
        "prefect-workers", label_selector="app.kubernetes.io/component=worker"
    ).items[0]
    server = Server(kubectl, "single", _server_values(folder))
    with receivers(kubectl, worker.spec.containers[0].image) as received:
        authority = {"ca.crt": received.authority.pem.decode()}
        put_secret(kubectl, "prefect", "test-authority", authority)
        put_secret(kubectl, "prefect-workers", "alerts", _SECRET)
        try:
            in_parallel(server.upgrade, received.wait_until_ready)
            applied = command("apply", "--file", str(_platform_file(folder)))
            assert applied.returncode == 0, applied.stderr
            for value in _SECRET.values():
                assert value not in applied.stdout + applied.stderr
            yield Alerted(platform, received)
        finally:
            received.restore_names()
            restored = [command("deploy"), command("apply", "--prune")]
            assert [each.stderr for each in restored if each.returncode] == []


def _server_values(folder: Path) -> Path:
    volume = {"name": "authority", "secret": {"secretName": "test-authority"}}
    mount = {"name": "authority", "mountPath": str(Path(_AUTHORITY).parent)}
    to = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}
    values = {
        "publicUrl": "https://prefect.example.org",
        # The ports of the pod, because a policy does not apply to those of its Service.
        "networkPolicies": {"apiEgress": [{"to": [to], "ports": [{"port": 8443}, {"port": 8025}]}]},
        "api": {"extraVolumes": [volume], "extraVolumeMounts": [mount]},
        "extraEnv": [
            {"name": name, "value": _AUTHORITY} for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        ],
    }
    path = folder / "server.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _platform_file(folder: Path) -> Path:
    local = REPOSITORY / "k8s" / "environments" / "local" / "platform.yaml"
    content = {**yaml.safe_load(local.read_text()), "alerts": _ALERTS}
    content["work_pools"]["default"]["concurrency_limit"] = 10
    path = folder / "platform.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def runs(alerted: Alerted) -> Iterator[dict[str, FlowRun]]:
    """Start a run of each case, each with its own deployment, and delete all at the end."""
    started: dict[str, FlowRun] = {}
    deployments: list[UUID] = []
    with connected(alerted.platform.kubectl) as prefect:
        for name, case in _CASES.items():
            deployments.append(deploy_code(prefect, name, _FLOW.format(name=name)))
            started[name] = prefect.create_flow_run_from_deployment(
                deployments[-1],
                parameters={"how": case.how},
                job_variables={**SMALL, **case.variables},
            )
    yield started
    with connected(alerted.platform.kubectl) as prefect:
        for deployment in deployments:
            prefect.delete_deployment(deployment)
        for run in started.values():
            prefect.delete_flow_run(run.id)
    selector = f"prefect.io/flow-run-id in ({','.join(str(run.id) for run in started.values())})"
    alerted.platform.kubectl(
        *(f"--namespace={JOBS}", "delete", "jobs", f"--selector={selector}", "--wait=false")
    )


@pytest.mark.usefixtures("runs")  # they start first, and fail while this test waits
def test_a_paused_pool_is_reported(
    alerted: Alerted, prefect: SyncPrefectClient, record_property: Callable[[str, object], None]
) -> None:
    pool = "paused-pool"
    prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    try:
        prefect.update_work_pool(pool, WorkPoolUpdate(is_paused=True))
        paused = time.time()
        eventually(
            "the paused pool is reported by mail and PagerDuty",
            lambda: alerted.messages(pool).keys() == {"mail", "pagerduty"},
        )
        record_property("paused pool: seconds to its alert", round(alerted.first(pool) - paused))
    finally:
        prefect.delete_work_pool(pool)


@pytest.mark.parametrize("name", [name for name, case in _CASES.items() if case.alerts])
def test_a_failure_is_reported_to_its_channels_with_run_cause_and_link(
    alerted: Alerted,
    runs: dict[str, FlowRun],
    name: str,
    record_property: Callable[[str, object], None],
) -> None:
    run, alerts = runs[name], _CASES[name].alerts
    if name == "frozen":
        # Longer than the pause between two heartbeats, and shorter than the chart's period.
        reaper = ("prefect-workers", "prefect-worker-reaper", "--silence=45")
        eventually(
            "the reaper names the frozen run",
            lambda: (
                f"{run.name} ({run.id}) is Running" in run_now(alerted.platform.kubectl, *reaper)
            ),
            within=300,
        )

    eventually(
        f"{run.name} ({name}) is reported by {', '.join(alerts)}",
        lambda: _phrases(alerted, run.name, alerts) == set(alerts),
        within=300,
        every=2,
    )
    messages = alerted.messages(run.name)
    assert not messages.keys() - alerts.keys(), "another channel received an alert"
    for channel in alerts:
        texts = [json.dumps(message) for message in messages[channel]]
        assert all("https://prefect.example.org" in text for text in texts)
        contents = [json.dumps({**message, "at": None}) for message in messages[channel]]
        assert len(contents) == len(set(contents)), "a message was sent twice"
    assert run.created is not None
    seconds = round(alerted.first(run.name) - run.created.timestamp())
    record_property(f"{name}: seconds from the run's creation to its alert", seconds)


def _phrases(alerted: Alerted, name: str, alerts: dict[str, str]) -> set[str]:
    messages = alerted.messages(name)
    return {
        channel
        for channel, phrase in alerts.items()
        if any(phrase in json.dumps(message) for message in messages.get(channel, []))
    }


def test_a_completed_run_is_not_reported(
    alerted: Alerted, runs: dict[str, FlowRun], prefect: SyncPrefectClient
) -> None:
    # This runs after the other tests of this file, so that all other alerts have arrived.
    state = prefect.read_flow_run(runs["well"].id).state

    assert state is not None
    assert state.is_completed()
    assert alerted.messages(runs["well"].name) == {}


def test_frozen_runs_are_left_alone_and_runs_that_cannot_start_stay_pending(
    runs: dict[str, FlowRun], prefect: SyncPrefectClient
) -> None:
    states = {name: prefect.read_flow_run(run.id).state for name, run in runs.items()}

    assert {name: state.type.value for name, state in states.items() if state} == {
        "well": "COMPLETED",
        "killed": "CRASHED",
        "frozen": "RUNNING",
        "hungry": "CRASHED",
        "imageless": "PENDING",
        "huge": "PENDING",
    }
