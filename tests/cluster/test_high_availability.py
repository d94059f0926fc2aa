"""Mode ha: the platform keeps working while pods of API, services and Redis are replaced."""

import json
from collections.abc import Callable
from http.client import INTERNAL_SERVER_ERROR
from itertools import chain

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from prefect_platform_cli.deploy.connection import connected
from tests.chaos.faults import FAULTS
from tests.cluster import written_places
from tests.cluster.deployed import (
    JOBS,
    eventually,
    final,
    put_secret,
    read_secret,
    restricted_pod,
    run_etl,
    start_etl,
)
from tests.cluster.ha_server import END_LOOP, NAMESPACE, Server
from tests.support.secret_search import search

SERVICES = "app.kubernetes.io/component=services"
# Sends requests to the API without a pause until SIGTERM, then prints the number of each outcome.
_CLIENT = """
import collections, httpx, os, signal, sys
seen = collections.Counter()
def tell(*_):
    print(dict(seen), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, tell)
user, _, password = os.environ["AUTH"].partition(":")
while True:
    try:
        answer = httpx.get("http://prefect-server.prefect:4200/api/admin/version",
                           auth=(user, password), timeout=30)
        seen[str(answer.status_code)] += 1
    except httpx.HTTPError as error:
        seen[type(error).__name__] += 1
    if sum(seen.values()) % 50 == 0:
        print(dict(seen), flush=True)
"""


def persisted_events(prefect: SyncPrefectClient, run_id: object) -> int:
    """Return how many events of a flow run the database has. They pass through Redis."""
    resource = {"id": [f"prefect.flow-run.{run_id}"]}
    answer = prefect.request(
        "POST", "/events/filter", json={"filter": {"any_resource": resource}, "limit": 50}
    )
    return int(answer.json()["total"])


def test_an_upgrade_with_the_same_values_changes_no_pod(server: Server) -> None:
    before = server.pods()
    server.upgrade()
    assert server.pods() == before
    assert sum(name.startswith("prefect-server-services") for name in before) == 2


def test_a_run_completes_and_its_events_are_stored(
    server: Server, prefect: SyncPrefectClient
) -> None:
    ended = run_etl(prefect, "2013-02-01")

    assert ended.state is not None
    assert ended.state.is_completed(), f"{ended.state} with {server.pods()}"
    eventually("the events of the run are stored", lambda: persisted_events(prefect, ended.id) >= 4)


def test_mode_ha_writes_no_secret_outside_of_secrets(server: Server) -> None:
    values = written_places.secret_values(server.kubectl)
    assert "prefect/prefect-redis password" in {each.name for each in values}

    found = search(
        values,
        chain(
            written_places.releases(server.kubectl),
            written_places.objects(server.kubectl),
            written_places.logs_of_the_node(),
        ),
    )

    assert not found


def test_a_rollout_of_the_api_loses_no_request(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    image = server("get", "deployment", "prefect-server", "-o=jsonpath={..containers[0].image}")
    # The namespace of job pods has no auth string of its own.
    put_secret(
        server.kubectl, JOBS, "client", read_secret(server.kubectl, NAMESPACE, "prefect-auth")
    )
    auth = {"secretKeyRef": {"name": "client", "key": "auth-string"}}
    # The policy of the job pods lets every pod of their namespace reach the API.
    pod = restricted_pod(
        "client",
        JOBS,
        {
            "image": image,
            "command": ["python", "-c", _CLIENT],
            "env": [{"name": "AUTH", "valueFrom": auth}],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        },
    )
    in_jobs = ("--namespace", JOBS)
    kubectl = server.kubectl
    kubectl.apply(json.dumps(pod))

    def phase() -> str:
        return str(server.core.read_namespaced_pod("client", JOBS).status.phase)

    try:
        eventually("the client runs", lambda: phase() == "Running")
        eventually(
            "the client gets a response", lambda: "200" in kubectl(*in_jobs, "logs", "client")
        )
        server("rollout", "restart", "deployment/prefect-server")
        server("rollout", "status", "deployment/prefect-server", "--timeout=240s")
        eventually(
            "the old pods have terminated",
            lambda: len(server.pods("app.kubernetes.io/component=api")) == 2,
        )
        # Send the signal without deleting the pod, which would delete its log, too.
        kubectl(*in_jobs, "exec", "client", "--", "python", "-c", "import os; os.kill(1, 15)")
        eventually("the client ended", lambda: phase() == "Succeeded")
        last = kubectl(*in_jobs, "logs", "client", "--tail=1")
    finally:
        kubectl(*in_jobs, "delete", "pod/client", "secret/client", "--wait=false")

    record_property("requests during a rollout of the API, by outcome", last)
    assert set(json.loads(last.replace("'", '"'))) == {"200"}


def test_a_services_pod_restarts_when_one_of_its_loops_ends(server: Server) -> None:
    name = next(iter(server.pods(SERVICES)))
    restarts = server.pods(SERVICES)[name]

    server("exec", name, "--container=services", "--", "touch", END_LOOP)

    eventually(f"{name} restarts", lambda: server.pods(SERVICES)[name] == restarts + 1)
    server("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=180s")
    log = server("logs", name, "--container=services", "--previous")
    assert "Not healthy: EventPersister has ended" in log


def test_services_recover_from_an_outage_of_redis(server: Server) -> None:
    restarts = server.pods(SERVICES)
    server("delete", "pod", "prefect-server-redis-0", "--grace-period=0", "--force")

    accepted: list[FlowRun] = []

    # The client keeps its port although kubectl exits when the pod resets a connection.
    with connected(server.kubectl) as client:

        def accepts_runs() -> bool:
            try:
                accepted.append(start_etl(client, "2013-02-02"))
            except PrefectHTTPStatusError as error:
                if error.response.status_code != INTERNAL_SERVER_ERROR:
                    raise
                return False
            except httpx.TransportError:
                return False
            return True

        eventually("the API accepts runs again", accepts_runs)
        ended = final(client, accepted[0])

        assert ended.state is not None
        assert ended.state.is_completed(), ended.state
        eventually("events are stored again", lambda: persisted_events(client, ended.id) >= 4)
    assert server.pods(SERVICES) == restarts


@pytest.mark.whole
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.ha])
def test_every_run_ends_exactly_once_as_it_has_to_in_spite_of(
    violations: Callable[[str], tuple[str, ...]], name: str
) -> None:
    assert violations(name) == ()
