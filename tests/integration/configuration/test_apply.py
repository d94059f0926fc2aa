"""Files become resources of a real server: planned, applied, read back, pruned, and safe."""

import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import httpx
import pytest
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from pydantic import SecretStr

from prefect_platform.configuration import commands
from prefect_platform.configuration.core.context import Mounted
from prefect_platform.configuration.core.lock import LOCK, LockTimings, exclusive
from prefect_platform.configuration.core.prefect_api import delete, prefect_api
from prefect_platform.configuration.core.source import ConfigurationError
from prefect_platform.configuration.kinds import TYPES
from prefect_platform.configuration.platform_file import Files, load
from prefect_platform.configuration.reconcile import apply as apply_module
from prefect_platform.configuration.reconcile.ledger import read_ledger
from prefect_platform.configuration.reconcile.plan import Action, make_plan, read
from prefect_platform.errors import PlatformError
from tests.support.servers import prefect_server

_FILE = """
variables:
  region: {value: eu-central-1, tags: [aws]}
concurrency_limits:
  warehouse: {limit: 5}
tag_concurrency_limits:
  database: 3
work_pools:
  default:
    concurrency_limit: 2
    queues:
      nightly: {priority: 1, concurrency_limit: 1}
      default: {priority: 2}
blocks:
  custom-webhook/chat:
    name: chat
    url: {secret: {name: alerts, key: slack-url}}
  webhook/hook:
    url: {secret: {name: alerts, key: webhook-url}}
  s3-bucket/results:
    bucket_name: results
alerts:
  channels:
    ops: {type: slack, url: {secret: {name: alerts, key: slack-url}}}
  severities: {critical: [ops]}
automations:
  call-on-failure:
    trigger:
      type: event
      expect: [prefect.flow-run.Failed]
      match: {prefect.resource.id: prefect.flow-run.*}
    actions: [{type: call-webhook, block: webhook/hook}]
"""
_FLOW = """
from prefect import flow

@flow
def hello(name: str = "you") -> None:
    print(name)
"""
_DEPLOYMENTS = """
pull:
  - prefect.deployments.steps.set_working_directory: {directory: /opt/prefect}
deployments:
  - name: daily
    entrypoint: hello.py:hello
    work_pool: {name: default, work_queue_name: nightly}
    schedules: [{slug: morning, cron: "0 6 * * *"}]
"""
_SECRET = "https://hooks.slack.com/services/T0/B0/highly-secret"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server and yield the address of its API."""
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def client(api: str) -> Iterator[SyncPrefectClient]:
    """Yield a client of the server, which has nothing that an earlier test declared."""
    with prefect_api(api, None) as connected:
        for each in reversed(TYPES):
            for found in each.read(connected, read(connected, TYPES)):
                if found.key.name != "default/default":
                    each.delete(connected, found)
        if ledger := read_ledger(connected).document:
            delete(connected, "/block_documents/{id}", id=ledger)
        yield connected


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Files]:
    """Return a function that writes platform.yaml."""
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    (tmp_path / "hello.py").write_text(_FLOW)
    secret = tmp_path / "secrets" / "alerts"
    secret.mkdir(parents=True)
    (secret / "slack-url").write_text(_SECRET)
    (secret / "webhook-url").write_text("https://example.org/hook")
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "default.json").write_text(
        '{"job_configuration": {"command": "x"}, "variables": {"type": "object"}}'
    )

    def to(text: str) -> Files:
        (tmp_path / "platform.yaml").write_text(text)
        return Files(tmp_path / "platform.yaml", tmp_path / "prefect.yaml")

    return to


def around(files: Files, release: str = "prefect-workers/prefect-worker") -> Mounted:
    """Return the context beside the files."""
    folder = files.platform.parent
    return Mounted(folder / "secrets", folder / "templates", release)


def plan(client: SyncPrefectClient, files: Files, *, prune: bool = False) -> list[tuple[str, str]]:
    """Return the steps of the plan: action and resource."""
    declared = load(files, around(files))
    steps = make_plan(declared, read(client, TYPES), read_ledger(client), prune=prune).changes
    return [(step.action.value, str(step.key)) for step in steps]


def test_what_is_applied_is_on_the_server_and_plans_empty(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """The server has every resource just as declared, and a second apply does nothing."""
    files = write(_FILE)
    assert commands.apply(client, files, around(files), prune=True)
    assert plan(client, files, prune=True) == []
    assert not commands.apply(client, files, around(files), prune=True)

    pool = client.request("GET", "/work_pools/{name}", path_params={"name": "default"}).json()
    assert pool["concurrency_limit"] == 2
    queues = client.request(
        "POST",
        "/work_pools/{work_pool_name}/queues/filter",
        path_params={"work_pool_name": "default"},
        json={},
    ).json()
    assert [(queue["name"], queue["priority"]) for queue in queues] == [
        ("nightly", 1),
        ("default", 2),
    ]
    tags = client.request("POST", "/concurrency_limits/filter", json={}).json()
    assert [(limit["tag"], limit["concurrency_limit"]) for limit in tags] == [("database", 3)]


def test_deployments_are_planned_applied_and_pruned_with_the_rest(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """A deployment that leaves prefect.yaml leaves the server, its flow stays."""
    files = write(_FILE)
    files.deployments.write_text(_DEPLOYMENTS)
    commands.apply(client, files, around(files), prune=True)
    assert plan(client, files, prune=True) == []
    found = client.read_deployment_by_name("hello/daily")
    assert (found.work_queue_name, len(found.schedules)) == ("nightly", 1)
    files.deployments.write_text("deployments: []\n")
    assert plan(client, files, prune=True) == [("delete", "deployment hello/daily")]
    commands.apply(client, files, around(files), prune=True)
    assert client.read_deployments() == []
    assert [flow.name for flow in client.read_flows()] == ["hello"]


def test_a_rotated_secret_reaches_its_block_and_no_output(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next apply carries a new value over; neither value is printed, by nobody."""
    files = write(_FILE)
    commands.apply(client, files, around(files), prune=True)
    rotated = f"{_SECRET}-rotated"
    (files.platform.parent / "secrets" / "alerts" / "slack-url").write_text(f"{rotated}\n")
    assert plan(client, files) == [
        ("update", "block custom-webhook/chat"),  # whose URL Prefect does not call secret
        ("update", "block slack-webhook/alerts-ops"),
    ]
    assert commands.plan(client, files, around(files), prune=True)
    commands.apply(client, files, around(files), prune=True)
    commands.export(client, around(files))
    document = client.request(
        "GET",
        "/block_types/slug/{slug}/block_documents/name/{block_document_name}",
        path_params={"slug": "slack-webhook", "block_document_name": "alerts-ops"},
        params={"include_secrets": True},
    ).json()
    assert document["data"]["url"] == rotated
    printed = capsys.readouterr()
    assert "(secret)" in printed.out
    assert "highly-secret" not in printed.out + printed.err


def test_an_export_makes_an_empty_server_the_same(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What one server exports is applied to another, which then exports the same file."""
    files = write(_FILE)
    commands.apply(client, files, around(files), prune=True)
    capsys.readouterr()
    commands.export(client, around(files))
    first = capsys.readouterr().out
    (files.platform.parent / "exported.yaml").write_text(first)
    exported = Files(files.platform.parent / "exported.yaml", files.deployments)
    assert plan(client, exported, prune=True) == []
    with (
        prefect_server(tmp_path_factory.mktemp("second")) as url,
        prefect_api(url, None) as second,
    ):
        commands.apply(second, exported, around(files), prune=True)
        capsys.readouterr()
        commands.export(second, around(files))
        assert capsys.readouterr().out == first


def test_an_unknown_secret_of_an_export_is_refused(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A block that was made by hand keeps its value to itself: the file names a placeholder."""
    files = write("alerts: {enabled: false}\n")
    SlackWebhook(url=SecretStr(_SECRET)).save("by-hand")
    commands.export(client, around(files))
    written = capsys.readouterr().out
    assert "highly-secret" not in written
    exported = write(written)
    with pytest.raises(ConfigurationError, match="the Secret unknown-secret does not exist"):
        commands.apply(client, exported, around(exported), prune=False)


def test_only_what_differs_is_changed_and_only_what_is_owned_is_pruned(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """A hand-made resource stays, a removed one goes when asked to, drift is put right."""
    files = write(_FILE)
    commands.apply(client, files, around(files), prune=True)
    client.request("POST", "/variables/", json={"name": "by_hand", "value": 1})
    client.request(
        "PATCH", "/variables/name/{name}", path_params={"name": "region"}, json={"value": "moon"}
    )
    files = write(_FILE.replace("tag_concurrency_limits:\n  database: 3\n", ""))
    assert plan(client, files) == [("update", "variable region")]
    assert plan(client, files, prune=True) == [
        ("update", "variable region"),
        ("delete", "tag concurrency limit database"),
    ]
    commands.apply(client, files, around(files), prune=False)
    assert client.request("POST", "/concurrency_limits/filter", json={}).json() != []
    commands.apply(client, files, around(files), prune=True)
    assert client.request("POST", "/concurrency_limits/filter", json={}).json() == []
    names = {each["name"] for each in client.request("POST", "/variables/filter", json={}).json()}
    assert names == {"by_hand", "region"}


def test_a_resource_that_is_there_already_is_adopted(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """What somebody made by hand and the file now declares belongs to the file."""
    client.request("POST", "/variables/", json={"name": "region", "value": "x", "tags": []})
    files = write("alerts: {enabled: false}\nvariables:\n  region: {value: x}\n")
    assert plan(client, files) == [("adopt", "variable region")]
    commands.apply(client, files, around(files), prune=False)
    assert plan(client, write("alerts: {enabled: false}\n"), prune=True) == [
        ("delete", "variable region")
    ]


def test_what_somebody_paused_stays_paused(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """A pool paused at night is not started by the next apply, unless the file says so."""
    files = write(_FILE)
    commands.apply(client, files, around(files), prune=True)
    path = {"name": "default"}
    client.request("PATCH", "/work_pools/{name}", path_params=path, json={"is_paused": True})
    assert plan(client, files) == []
    files = write(
        _FILE.replace("concurrency_limit: 2\n", "concurrency_limit: 2\n    paused: false\n")
    )
    assert plan(client, files) == [("update", "work pool default")]
    commands.apply(client, files, around(files), prune=True)
    found = client.request("GET", "/work_pools/{name}", path_params=path).json()
    assert not found["is_paused"]


def test_the_default_queue_and_the_queues_of_a_removed_pool_are_no_deletions(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """Prefect refuses to delete a default queue, and deletes the others with their pool."""
    off = "alerts: {enabled: false}\n"
    pool = "work_pools: {default: {queues: {default: {concurrency_limit: 3}, nightly: {}}}}\n"
    files = write(off + pool)
    commands.apply(client, files, around(files), prune=True)
    files = write(off + "work_pools: {default: {queues: {nightly: {}}}}\n")
    assert plan(client, files, prune=True) == [("forget", "work queue default/default")]
    commands.apply(client, files, around(files), prune=True)
    files = write(off)
    commands.apply(client, files, around(files), prune=True)
    assert plan(client, files, prune=True) == []
    assert client.read_work_pools() == []


def test_what_waited_for_another_apply_prunes_nothing(
    client: SyncPrefectClient, write: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may be older than those that the other one applied."""
    monkeypatch.setattr(apply_module, "exclusive", partial(exclusive, timings=LockTimings(stale=1)))
    files = write("alerts: {enabled: false}\nvariables: {newer: {value: 1}}\n")
    commands.apply(client, files, around(files), prune=True)
    older = write("alerts: {enabled: false}\n")
    client.request("POST", "/variables/", json={"name": LOCK, "value": '{"holder": "other"}'})

    commands.apply(client, older, around(older), prune=True)
    assert plan(client, older, prune=True) == [("delete", "variable newer")]
    commands.apply(client, older, around(older), prune=True)
    assert plan(client, older, prune=True) == []


def test_two_releases_do_not_configure_one_server(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    files = write(_FILE)
    commands.apply(client, files, around(files), prune=True)
    smaller = write("{}\n")
    other = around(smaller, "b/b")

    for command in (commands.plan, commands.apply):
        with pytest.raises(PlatformError, match="the release prefect-workers/prefect-worker"):
            command(client, smaller, other, prune=True)
    assert plan(client, write(_FILE), prune=True) == []

    document = read_ledger(client).document
    delete(client, "/block_documents/{id}", id=document)
    commands.apply(client, smaller, other, prune=True)
    assert ("delete", "work pool default") not in plan(client, smaller, prune=True)
    assert read_ledger(client).release == "b/b"


def test_queues_trade_priorities(client: SyncPrefectClient, write: Callable[[str], Files]) -> None:
    """Prefect moves other queues when one gets a priority; in the end all are as declared."""
    queues = "{a: {priority: %d}, b: {priority: %d}, default: {priority: %d}}"
    text = f"{{alerts: {{enabled: false}}, work_pools: {{default: {{queues: {queues}}}}}}}"
    for priorities in ((1, 2, 3), (3, 1, 2), (2, 3, 1)):
        files = write(text % priorities)
        commands.apply(client, files, around(files), prune=True)
        assert plan(client, files, prune=True) == []


def test_a_run_that_was_cut_off_is_completed_by_the_next(
    client: SyncPrefectClient, write: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away in the middle: what was done is owned, the rest follows."""
    files = write(_FILE)
    real, calls = client.request, 0

    def until_the_second(method: str, path: str, **rest: object) -> httpx.Response:
        nonlocal calls
        calls += method == "POST" and path in ("/v2/concurrency_limits/", "/work_pools/")
        if calls == 2:
            raise httpx.ConnectError("gone")
        return real(method, path, **rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(client, "request", until_the_second)
        with pytest.raises(httpx.ConnectError):
            commands.apply(client, files, around(files), prune=True)
        calls = 3
    names = {action for action, _ in plan(client, files)}
    assert names == {Action.CREATE.value}
    assert plan(client, write("alerts: {enabled: false}\n"), prune=True) != []
    files = write(_FILE)
    commands.apply(client, files, around(files), prune=True)
    assert plan(client, files, prune=True) == []


def _apply_alone(api: str, files: Files, barrier: Barrier) -> None:
    barrier.wait()
    with prefect_api(api, None) as client:
        commands.apply(client, files, around(files), prune=True)


def test_two_applies_at_once_are_as_one_after_the_other(
    api: str, client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """Neither fails, and the server is as declared."""
    files = write(_FILE)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=_apply_alone, args=(api, files, barrier)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(120)
    assert [each.exitcode for each in both] == [0, 0]
    assert plan(client, files, prune=True) == []


def test_the_lock_of_a_dead_holder_is_taken_over_and_of_a_live_one_is_not(
    client: SyncPrefectClient,
) -> None:
    """A lock that is not renewed any more is removed; one that is renewed is waited for."""
    client.request("POST", "/variables/", json={"name": LOCK, "value": '{"holder": "dead"}'})
    with exclusive(client, LockTimings(renew=0.2, stale=1, poll=0.1)) as held:
        with (
            pytest.raises(PlatformError, match="another apply has held the lock of this server"),
            # Many beats, as the default has: one takes seconds on a machine that is busy.
            exclusive(client, LockTimings(stale=10, wait=12, poll=0.1)),
        ):
            pass
        held.require()
    assert client.request("POST", "/variables/filter", json={}).json() == []


def test_a_holder_that_lost_the_lock_stops(client: SyncPrefectClient) -> None:
    """Somebody took over: the first one may not change anything more."""
    with exclusive(client, LockTimings(renew=30)) as held:
        client.request("DELETE", "/variables/name/{name}", path_params={"name": LOCK})
        with pytest.raises(PlatformError, match="took over"):
            held.confirm()
    with exclusive(client, LockTimings(renew=0.1)) as held:
        client.request("DELETE", "/variables/name/{name}", path_params={"name": LOCK})
        held.lost.wait(10)
        with pytest.raises(PlatformError, match="took over"):
            held.require()


def test_a_server_of_another_version_is_refused(
    client: SyncPrefectClient, write: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two versions are named, and nothing is changed."""
    files = write(_FILE)
    monkeypatch.setattr("prefect.__version__", "3.0.0")
    with pytest.raises(
        PlatformError, match=r"Prefect 3\.\d+\.\d+, but this program is for Prefect 3\.0\.0"
    ):
        commands.apply(client, files, around(files), prune=True)


def test_a_server_that_is_away_is_named() -> None:
    """The sentence says which address, and what to do."""
    with (
        pytest.raises(PlatformError, match=r"http://127\.0\.0\.1:9/api does not answer"),
        prefect_api("http://127.0.0.1:9/api", None) as client,
    ):
        client.request("GET", "/admin/version")


def test_an_api_that_refuses_us_is_named_with_the_secret_to_use(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A wrong auth string is one sentence, and the sentence does not repeat it."""
    home = tmp_path_factory.mktemp("locked")
    with prefect_server(home, PREFECT_SERVER_API_AUTH_STRING="admin:right") as url:
        with (
            pytest.raises(PlatformError, match="refused GET") as refused,
            prefect_api(url, "admin:wrong") as client,
        ):
            client.request("GET", "/admin/version")
        with prefect_api(url, "admin:right") as client:
            assert client.request("GET", "/admin/version").json()
    assert "prefect-auth" in refused.value.next_step
    assert "admin:wrong" not in str(refused.value)
