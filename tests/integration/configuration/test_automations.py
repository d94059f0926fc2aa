"""Automations on a real Prefect server are read back as they were declared."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from prefect_platform.configuration.automations.automations import Automations
from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.prefect_api import delete, prefect_api
from prefect_platform.configuration.core.resource import Declared, Found, Inventory, Key, Kind
from prefect_platform.errors import PlatformError
from tests.support import servers
from tests.support.strategies_automations import NAMES, Automation, automations, source

_SETTINGS = settings(
    deadline=None,  # a busy machine may be slow
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example cleans up
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # A generated automation may react to any event, so triggers are disabled.
    with servers.prefect_server(
        tmp_path_factory.mktemp("prefect"), PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED="false"
    ) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[SyncPrefectClient]:
    with prefect_api(url, "") as client:
        yield client


@pytest.fixture(scope="module")
def inventory(client: SyncPrefectClient) -> Inventory:
    """Create the resources that the strategies name; return their inventory."""
    inventory = Inventory()

    def add(kind: Kind, name: str, made: UUID) -> None:
        inventory.add([Found(Key(kind, name), made, {})])

    for pool in NAMES.work_pools:
        add(Kind.WORK_POOL, pool, client.create_work_pool(WorkPoolCreate(name=pool)).id)
    for name in NAMES.work_queues:
        pool, _, queue = name.partition("/")
        if queue == "default":
            made = client.read_work_pool(pool).default_queue_id
        else:
            path = {"pool": pool}
            made = UUID(
                client.request(
                    "POST",
                    "/work_pools/{pool}/queues",  # type: ignore[arg-type]
                    path_params=path,
                    json={"name": queue},
                ).json()["id"]
            )
        assert made is not None
        add(Kind.WORK_QUEUE, name, made)
    for name in NAMES.deployments:
        flow, _, deployment = name.partition("/")
        flow_id = client.create_flow_from_name(flow)
        add(Kind.DEPLOYMENT, name, client.create_deployment(flow_id, deployment))
    slack, hook = SlackWebhook(url="https://127.0.0.1/hook"), Webhook(url="https://127.0.0.1/")
    for block, names in ((slack, NAMES.notification_blocks), (hook, NAMES.webhook_blocks)):
        for name in names:
            add(Kind.BLOCK, name, UUID(str(block.save(name.partition("/")[2]))))
    for name in NAMES.automations:
        declared = declare(name, {"trigger": {"expect": ["never"]}, "actions": []})
        add(Kind.AUTOMATION, name, Automations().create(client, inventory, declared))
    return inventory


@pytest.fixture(autouse=True)
def _no_other_automations(client: SyncPrefectClient, inventory: Inventory) -> Iterator[None]:
    yield
    for each in client.read_automations():
        if inventory.key(each.id) is None:
            delete(client, "/automations/{id}", id=each.id)


def declare(name: str, automation: Automation) -> Declared:
    (declared,) = Automations().declare(source({name: automation}), Offline())
    return declared


def find(client: SyncPrefectClient, inventory: Inventory, name: str) -> Found:
    (each,) = [each for each in Automations().read(client, inventory) if each.key.name == name]
    return each


def create(client: SyncPrefectClient, inventory: Inventory, automation: Automation) -> Found:
    made = Automations().create(client, inventory, declare("mine", automation))
    return Found(Key(Kind.AUTOMATION, "mine"), made, {})


def compared(body: Any, declared: Declared) -> Any:  # noqa: ANN401 - JSON
    """Return the fields of a body that a plan compares; `enabled` only if the file declares it."""
    return {key: body[key] for key in body if key != "enabled" or "enabled" in declared.body}


ALERT: Automation = {
    "trigger": {"expect": ["prefect.flow-run.Crashed"]},
    "actions": [{"type": "send-notification", "block": "slack-webhook/oncall", "body": "crash"}],
}


@_SETTINGS
@given(first=automations(), second=automations())
def test_any_automation_is_read_back_as_declared(
    client: SyncPrefectClient,
    inventory: Inventory,
    first: Automation,
    second: Automation,
) -> None:
    declared = declare("mine", first)
    made = Automations().create(client, inventory, declared)
    try:
        there = find(client, inventory, "mine")
        assert there.id == made
        assert compared(there.body, declared) == declared.body

        declared = declare("mine", second)
        Automations().update(client, inventory, declared, there)
        there = find(client, inventory, "mine")
        assert there.id == made
        assert compared(there.body, declared) == declared.body
    finally:
        delete(client, "/automations/{id}", id=made)


def test_an_exported_automation_creates_the_same_automation(
    client: SyncPrefectClient, inventory: Inventory
) -> None:
    create(client, inventory, {**ALERT, "enabled": False})
    exported = find(client, inventory, "mine").body

    Automations().create(client, inventory, declare("copy", dict(exported)))

    assert find(client, inventory, "copy").body == exported


def test_an_automation_paused_by_hand_stays_paused(
    client: SyncPrefectClient, inventory: Inventory
) -> None:
    there = create(client, inventory, ALERT)
    client.pause_automation(there.id)

    Automations().update(client, inventory, declare("mine", {**ALERT, "description": "new"}), there)

    assert find(client, inventory, "mine").body["description"] == "new"
    assert find(client, inventory, "mine").body["enabled"] is False

    Automations().update(client, inventory, declare("mine", {**ALERT, "enabled": True}), there)

    assert find(client, inventory, "mine").body["enabled"] is True


def test_deleting_an_automation_twice_is_not_an_error(
    client: SyncPrefectClient, inventory: Inventory
) -> None:
    there = create(client, inventory, ALERT)

    Automations().delete(client, there)
    Automations().delete(client, there)

    assert client.read_automations_by_name("mine") == []


def test_the_id_of_a_deleted_resource_is_read_as_a_placeholder(
    client: SyncPrefectClient, inventory: Inventory
) -> None:
    gone = Key(Kind.DEPLOYMENT, "etl-daily/gone")
    there = Inventory()
    there.add(inventory.all())
    there.add([Found(gone, uuid4(), {})])
    automation = {
        "trigger": {"match_related": {"prefect.resource.id": {"deployment": gone.name}}},
        "actions": [{"type": "pause-deployment", "deployment": gone.name}],
    }
    create(client, there, automation)

    body = find(client, inventory, "mine").body

    placeholder = f"<deleted {there.id(gone)}>"
    assert body["actions"][0]["deployment"] == placeholder
    assert body["trigger"]["match_related"] == {"prefect.resource.id": {"deployment": placeholder}}


def test_every_page_is_read(client: SyncPrefectClient, inventory: Inventory) -> None:
    trigger = EventTrigger(expect={"never"})
    names = {f"page-{number:03}" for number in range(203)}
    for name in names:
        client.create_automation(AutomationCore(name=name, trigger=trigger, actions=[]))

    try:
        read = [each.key.name for each in Automations().read(client, inventory)]
    finally:
        for each in Automations().read(client, inventory):
            if each.key.name in names:
                Automations().delete(client, each)

    assert sorted(read) == sorted({*names, *NAMES.automations})


def test_duplicate_automation_names_are_refused_with_ids_and_a_fix(
    client: SyncPrefectClient, inventory: Inventory
) -> None:
    core = AutomationCore(name="twice", trigger=EventTrigger(expect={"never"}), actions=[])
    ids = [client.create_automation(core) for _ in range(2)]

    with pytest.raises(PlatformError) as refused:
        Automations().read(client, inventory)

    assert all(str(each) in refused.value.message for each in ids)
    assert "twice" in refused.value.message
    assert "prefect automation delete --id" in refused.value.next_step


@pytest.mark.parametrize(
    ("name", "deployment", "left_out"),
    [
        ("daily__automation_1", "etl-daily/daily", True),
        ("daily__automation_1", "etl-daily/hourly", False),
        ("daily", "etl-daily/daily", False),
    ],
)
def test_automations_that_a_deployment_owns_are_left_out(
    client: SyncPrefectClient, inventory: Inventory, name: str, deployment: str, *, left_out: bool
) -> None:
    trigger = EventTrigger(expect={"never"}, name=name)
    trigger.set_deployment_id(inventory.id(Key(Kind.DEPLOYMENT, deployment)))
    client.create_automation(trigger.as_automation().model_copy(update={"name": name}))

    names = {each.key.name for each in Automations().read(client, inventory)}

    assert (name not in names) is left_out


@contextmanager
def losing_the_first_response(url: str) -> Iterator[str]:
    """Yield the URL of a proxy that drops the response when it first creates an automation."""
    lost = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            response = httpx.request(
                self.command,
                url.removesuffix("/api") + self.path,
                content=self.rfile.read(length),
                headers={"Content-Type": "application/json"},
            )
            if response.status_code == HTTPStatus.CREATED and not lost.is_set():
                lost.set()
                self.close_connection = True
                return
            self.send_response(response.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_DELETE = forward  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api"
        finally:
            server.shutdown()
            thread.join()
    assert lost.is_set()


def test_an_automation_is_created_once_even_if_the_response_is_lost(
    client: SyncPrefectClient, inventory: Inventory, url: str
) -> None:
    with (
        losing_the_first_response(url) as proxy,
        SyncPrefectClient(proxy) as through_proxy,
    ):
        made = Automations().create(through_proxy, inventory, declare("mine", ALERT))

    assert [each.id for each in client.read_automations_by_name("mine")] == [made]
