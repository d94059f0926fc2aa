"""Mode ha: pods of API, services and Redis come and go, and the platform works on."""

import json
from collections.abc import Callable
from http.client import INTERNAL_SERVER_ERROR
from itertools import chain

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from prefect_platform_cli.deploy.connection import connected
from tests.cluster import written_places
from tests.cluster.deployed import eventually, final, restricted_pod, run_etl, start_etl
from tests.cluster.ha_server import END_LOOP, Server
from tests.support.secret_search import search

SERVICES = "app.kubernetes.io/component=services"
# Asks the API without a pause, until it is told to stop; then says what became of each request.
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
    """Return how many events of a flow run the database has: they come through Redis."""
    resource = {"id": [f"prefect.flow-run.{run_id}"]}
    answer = prefect.request(
        "POST", "/events/filter", json={"filter": {"any_resource": resource}, "limit": 50}
    )
    return int(answer.json()["total"])


def test_the_same_values_again_change_no_pod(server: Server) -> None:
    before = server.pods()
    server.upgrade()
    assert server.pods() == before
    assert sum(name.startswith("prefect-server-services") for name in before) == 2


def test_a_run_completes_and_its_events_are_kept(
    server: Server, prefect: SyncPrefectClient
) -> None:
    ended = run_etl(prefect, "2013-02-01")

    assert ended.state is not None
    assert ended.state.is_completed(), f"{ended.state} with {server.pods()}"
    eventually("the events of the run are kept", lambda: persisted_events(prefect, ended.id) >= 4)


def test_nothing_of_mode_ha_holds_a_secret(server: Server) -> None:
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
    auth = {"secretKeyRef": {"name": "prefect-auth", "key": "auth-string"}}
    pod = restricted_pod(
        "client",
        "prefect-workers",
        {
            "image": image,
            "command": ["python", "-c", _CLIENT],
            "env": [{"name": "AUTH", "valueFrom": auth}],
        },
    )
    in_workers = ("--namespace", "prefect-workers")
    kubectl = server.kubectl
    kubectl.apply(json.dumps(pod))

    def phase() -> str:
        return kubectl(*in_workers, "get", "pod", "client", "-o=jsonpath={.status.phase}")

    try:
        eventually("the client runs", lambda: phase() == "Running")
        eventually("the client asks", lambda: "200" in kubectl(*in_workers, "logs", "client"))
        server("rollout", "restart", "deployment/prefect-server")
        server("rollout", "status", "deployment/prefect-server", "--timeout=240s")
        eventually(
            "the old pods are gone",
            lambda: len(server.pods("app.kubernetes.io/component=api")) == 2,
        )
        # The signal without the pod's removal, which would take its log along.
        kubectl(*in_workers, "exec", "client", "--", "python", "-c", "import os; os.kill(1, 15)")
        eventually("the client ended", lambda: phase() == "Succeeded")
        last = kubectl(*in_workers, "logs", "client", "--tail=1")
    finally:
        kubectl(*in_workers, "delete", "pod", "client", "--wait=false")

    record_property("requests during a rollout of the API, by outcome", last)
    assert set(json.loads(last.replace("'", '"'))) == {"200"}


def test_a_pod_of_the_services_restarts_when_one_of_its_loops_ends(server: Server) -> None:
    name = next(iter(server.pods(SERVICES)))
    restarts = server.pods(SERVICES)[name]

    server("exec", name, "--container=services", "--", "touch", END_LOOP)

    eventually(f"{name} restarts", lambda: server.pods(SERVICES)[name] == restarts + 1)
    server("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=180s")
    log = server("logs", name, "--container=services", "--previous")
    assert "Not healthy: EventPersister has ended" in log


def test_services_work_again_after_redis_was_away(server: Server) -> None:
    restarts = server.pods(SERVICES)
    server("delete", "pod", "prefect-server-redis-0", "--grace-period=0", "--force")

    taken: list[FlowRun] = []

    # The client keeps its port although kubectl exits when the pod resets a connection.
    with connected(server.kubectl) as client:

        def takes_runs() -> bool:
            try:
                taken.append(start_etl(client, "2013-02-02"))
            except PrefectHTTPStatusError as error:
                if error.response.status_code != INTERNAL_SERVER_ERROR:
                    raise
                return False
            except httpx.TransportError:
                return False
            return True

        eventually("the API takes runs again", takes_runs)
        ended = final(client, taken[0])

        assert ended.state is not None
        assert ended.state.is_completed(), ended.state
        eventually("events are kept again", lambda: persisted_events(client, ended.id) >= 4)
    assert server.pods(SERVICES) == restarts
