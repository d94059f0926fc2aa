"""Files are planned, applied, exported and pruned on a real server, by one apply at a time."""

import multiprocessing
import os
import re
import subprocess
import sys
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
from prefect_platform.configuration.core.context import Context, Mounted
from prefect_platform.configuration.core.lock import LOCK, LockTimings, exclusive
from prefect_platform.configuration.core.prefect_api import delete, prefect_api
from prefect_platform.configuration.core.resource import Declared, Kind
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
    grants:
      blocks: [s3-bucket/results]
      variables: [region]
      concurrency_limits: [warehouse]
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
    """Yield a client of the server, after deleting everything that an earlier test declared."""
    with prefect_api(api, None) as connected:
        existing = read(connected, TYPES)
        for each in reversed(TYPES):
            for found in existing.of(each.kind):
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

    def write_platform_file(text: str) -> Files:
        (tmp_path / "platform.yaml").write_text(text)
        return Files(tmp_path / "platform.yaml", tmp_path / "prefect.yaml")

    return write_platform_file


def context_of(files: Files, release: str = "prefect-workers/prefect-worker") -> Mounted:
    """Return the context whose secrets and templates are in the folder of the files."""
    folder = files.platform.parent
    return Mounted(folder / "secrets", folder / "templates", release)


def plan(client: SyncPrefectClient, files: Files, *, prune: bool = False) -> list[tuple[str, str]]:
    """Return the steps of the plan: action and resource."""
    declared = load(files, context_of(files))
    steps = make_plan(declared, read(client, TYPES), read_ledger(client), prune=prune).changes
    return [(step.action.value, str(step.key)) for step in steps]


def test_applied_resources_are_on_the_server_and_the_next_plan_is_empty(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """The server has every resource as declared, and a second apply changes nothing."""
    files = write(_FILE)
    assert commands.apply(client, files, context_of(files), prune=True)
    assert plan(client, files, prune=True) == []
    assert not commands.apply(client, files, context_of(files), prune=True)

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


def test_deployments_are_planned_applied_and_pruned_like_other_resources(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """A deployment removed from prefect.yaml is deleted from the server; its flow is kept."""
    files = write(_FILE)
    files.deployments.write_text(_DEPLOYMENTS)
    commands.apply(client, files, context_of(files), prune=True)
    assert plan(client, files, prune=True) == []
    found = client.read_deployment_by_name("hello/daily")
    assert (found.work_queue_name, len(found.schedules)) == ("nightly", 1)
    files.deployments.write_text("deployments: []\n")
    assert plan(client, files, prune=True) == [("delete", "deployment hello/daily")]
    commands.apply(client, files, context_of(files), prune=True)
    assert client.read_deployments() == []
    assert [flow.name for flow in client.read_flows()] == ["hello"]


def apply_in_process(
    api: str, files: Files, checksum: str = "current"
) -> subprocess.CompletedProcess[str]:
    """Apply the files as a pod does that the chart made for the configuration `checksum`."""
    folder = files.platform.parent
    (folder / "checksum").write_text("current")
    command: list[str | Path] = [
        *(sys.executable, "-m", "prefect_platform.configuration"),
        *("--file", files.platform, "--deployments", files.deployments),
        *("--secrets", folder / "secrets", "--templates", folder / "templates"),
        *("--release", "prefect-workers/prefect-worker", "--prune", "--checksum", checksum),
    ]
    environment = {**os.environ, "PREFECT_API_URL": api}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_broken_flow_leaves_only_its_own_deployments_as_they_are(
    api: str, client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """Everything else is applied and pruned, and each apply fails with the reason."""
    files = write(_FILE)
    folder = files.platform.parent
    entry = "  - {{name: {0}, entrypoint: '{0}.py:{0}', work_pool: {{name: default}}}}\n"
    for name in ("broken", "removed"):
        (folder / f"{name}.py").write_text(_FLOW.replace("hello", name))
    both = _DEPLOYMENTS + entry.format("broken")
    files.deployments.write_text(both + entry.format("removed"))
    commands.apply(client, files, context_of(files), prune=True)
    before = client.read_deployment_by_name("broken/broken")

    (folder / "broken.py").write_text(f"{_FLOW}import os\nos._exit(7)\n")
    files.deployments.write_text(both.replace("0 6 * * *", "0 7 * * *"))
    files = write(_FILE.replace("eu-central-1", "moon"))
    for steps in ("3 steps done", "Nothing to change"):
        applied = apply_in_process(api, files)
        assert applied.returncode == 1
        assert steps in applied.stdout
        at = f"{files.deployments}:9"
        reason = "broken.py ended the interpreter with exit code 7"
        assert f"deployment broken ({at}): {reason}\n" in applied.stderr

    assert client.read_deployment_by_name("broken/broken") == before
    names = {found.key.name for found in read(client, TYPES).of(Kind.DEPLOYMENT)}
    assert names == {"hello/daily", "broken/broken"}
    (schedule,) = client.read_deployment_by_name("hello/daily").schedules
    assert schedule.schedule.model_dump()["cron"] == "0 7 * * *"
    with pytest.raises(ConfigurationError, match=reason):
        load(files, context_of(files))


@pytest.mark.parametrize(
    ("grants", "missing"),
    [
        ("blocks: [secret/absent]", "block secret/absent"),
        ("variables: [absent]", "variable absent"),
        ("deployments: [hello/absent]", "deployment hello/absent"),
        ("concurrency_limits: [absent]", "concurrency limit absent"),
        ("concurrency_limits: ['tag:absent']", "tag concurrency limit absent"),
    ],
)
def test_a_grant_of_what_does_not_exist_is_refused(
    client: SyncPrefectClient, write: Callable[[str], Files], grants: str, missing: str
) -> None:
    files = write(f"work_pools:\n  default:\n    grants:\n      {grants}\n")

    with pytest.raises(ConfigurationError, match=f"needs the {missing}, which is neither") as error:
        plan(client, files)
    assert "platform.yaml:3" in str(error.value)


def test_a_rotated_secret_reaches_its_block_and_is_never_printed(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next apply updates the block, and no command prints the old or the new value."""
    files = write(_FILE)
    commands.apply(client, files, context_of(files), prune=True)
    rotated = f"{_SECRET}-rotated"
    (files.platform.parent / "secrets" / "alerts" / "slack-url").write_text(f"{rotated}\n")
    assert plan(client, files) == [
        ("update", "block custom-webhook/chat"),  # Prefect does not mark its URL as secret
        ("update", "block slack-webhook/alerts-ops"),
    ]
    assert commands.plan(client, files, context_of(files), prune=True)
    commands.apply(client, files, context_of(files), prune=True)
    commands.export(client, context_of(files))
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


def test_an_export_reproduces_the_configuration_on_an_empty_server(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The export of one server is applied to another, which then exports the same file."""
    files = write(_FILE)
    commands.apply(client, files, context_of(files), prune=True)
    capsys.readouterr()
    commands.export(client, context_of(files))
    first = capsys.readouterr().out
    (files.platform.parent / "exported.yaml").write_text(first)
    exported = Files(files.platform.parent / "exported.yaml", files.deployments)
    assert plan(client, exported, prune=True) == []
    with (
        prefect_server(tmp_path_factory.mktemp("second")) as url,
        prefect_api(url, None) as second,
    ):
        commands.apply(second, exported, context_of(files), prune=True)
        capsys.readouterr()
        commands.export(second, context_of(files))
        assert capsys.readouterr().out == first


def test_an_export_with_an_unknown_secret_is_refused(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The secret of a block that was created by hand is exported as a placeholder."""
    files = write("alerts: {enabled: false}\n")
    SlackWebhook(url=SecretStr(_SECRET)).save("by-hand")
    commands.export(client, context_of(files))
    written = capsys.readouterr().out
    assert "highly-secret" not in written
    exported = write(written)
    with pytest.raises(ConfigurationError, match="the Secret unknown-secret does not exist"):
        commands.apply(client, exported, context_of(exported), prune=False)


def test_only_differences_are_applied_and_only_owned_resources_are_pruned(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """Manually created resources are kept; removed ones are pruned on request; drift is fixed."""
    files = write(_FILE)
    commands.apply(client, files, context_of(files), prune=True)
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
    commands.apply(client, files, context_of(files), prune=False)
    assert client.request("POST", "/concurrency_limits/filter", json={}).json() != []
    commands.apply(client, files, context_of(files), prune=True)
    assert client.request("POST", "/concurrency_limits/filter", json={}).json() == []
    names = {each["name"] for each in client.request("POST", "/variables/filter", json={}).json()}
    assert names == {"by_hand", "region", "work_pool_grants_default"}


def test_an_existing_resource_is_adopted(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """A resource that was created by hand is owned by the file as soon as the file declares it."""
    client.request("POST", "/variables/", json={"name": "region", "value": "x", "tags": []})
    files = write("alerts: {enabled: false}\nvariables:\n  region: {value: x}\n")
    assert plan(client, files) == [("adopt", "variable region")]
    commands.apply(client, files, context_of(files), prune=False)
    assert plan(client, write("alerts: {enabled: false}\n"), prune=True) == [
        ("delete", "variable region")
    ]


def test_a_work_pool_paused_by_hand_stays_paused(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """The next apply does not resume a paused pool unless the file declares `paused: false`."""
    files = write(_FILE)
    commands.apply(client, files, context_of(files), prune=True)
    path = {"name": "default"}
    client.request("PATCH", "/work_pools/{name}", path_params=path, json={"is_paused": True})
    assert plan(client, files) == []
    files = write(
        _FILE.replace("concurrency_limit: 2\n", "concurrency_limit: 2\n    paused: false\n")
    )
    assert plan(client, files) == [("update", "work pool default")]
    commands.apply(client, files, context_of(files), prune=True)
    found = client.request("GET", "/work_pools/{name}", path_params=path).json()
    assert not found["is_paused"]


def test_default_queues_and_queues_of_a_removed_pool_are_not_deleted_separately(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """Prefect refuses to delete a default queue, and deletes other queues with their pool."""
    off = "alerts: {enabled: false}\n"
    pool = "work_pools: {default: {queues: {default: {concurrency_limit: 3}, nightly: {}}}}\n"
    files = write(off + pool)
    commands.apply(client, files, context_of(files), prune=True)
    files = write(off + "work_pools: {default: {queues: {nightly: {}}}}\n")
    assert plan(client, files, prune=True) == [("forget", "work queue default/default")]
    commands.apply(client, files, context_of(files), prune=True)
    files = write(off)
    commands.apply(client, files, context_of(files), prune=True)
    assert plan(client, files, prune=True) == []
    assert client.read_work_pools() == []


def test_an_apply_that_waited_for_another_one_prunes_nothing(
    client: SyncPrefectClient, write: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may be older than those of the other apply."""
    monkeypatch.setattr(apply_module, "exclusive", partial(exclusive, timings=LockTimings(stale=1)))
    files = write("alerts: {enabled: false}\nvariables: {newer: {value: 1}}\n")
    commands.apply(client, files, context_of(files), prune=True)
    older = write("alerts: {enabled: false}\n")
    client.request("POST", "/variables/", json={"name": LOCK, "value": '{"holder": "other"}'})

    commands.apply(client, older, context_of(older), prune=True)
    assert plan(client, older, prune=True) == [("delete", "variable newer")]
    commands.apply(client, older, context_of(older), prune=True)
    assert plan(client, older, prune=True) == []


def test_a_slow_pod_of_an_earlier_upgrade_cannot_undo_a_later_one_but_a_rollback_can(
    client: SyncPrefectClient, write: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, later = (
        "alerts: {enabled: false}\n",
        "alerts: {enabled: false}\nvariables: {a: {value: 1}}\n",
    )

    def apply(text: str, checksum: str) -> None:
        files = write(text)
        commands.apply(client, files, context_of(files), prune=True, checksum=checksum)

    def load_while_overtaken(files: Files, context: Context) -> list[Declared]:
        declared = load(files, context)
        monkeypatch.undo()
        apply(later, "later")
        return declared

    apply(earlier, "earlier")
    monkeypatch.setattr(commands, "load", load_while_overtaken)
    with pytest.raises(PlatformError, match="outdated and changes nothing"):
        apply(earlier, "earlier")
    assert plan(client, write(later), prune=True) == []

    apply(earlier, "earlier")
    assert plan(client, write(earlier), prune=True) == []


def test_a_pod_of_another_upgrade_than_its_configmap_changes_nothing(
    api: str, client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    ended = apply_in_process(api, write("alerts: {enabled: false}\n"), checksum="earlier")

    assert ended.returncode == 1
    assert "outdated and changes nothing" in ended.stderr
    assert read_ledger(client).document is None


def test_a_second_release_may_not_configure_the_same_server(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    files = write(_FILE)
    commands.apply(client, files, context_of(files), prune=True)
    smaller = write("{}\n")
    other = context_of(smaller, "b/b")

    for command in (commands.plan, commands.apply):
        with pytest.raises(PlatformError, match="the release prefect-workers/prefect-worker"):
            command(client, smaller, other, prune=True)
    assert plan(client, write(_FILE), prune=True) == []

    document = read_ledger(client).document
    delete(client, "/block_documents/{id}", id=document)
    commands.apply(client, smaller, other, prune=True)
    assert ("delete", "work pool default") not in plan(client, smaller, prune=True)
    assert read_ledger(client).release == "b/b"


@pytest.mark.parametrize(
    "damage",
    [{"entries": {"no such kind": {"a": []}}}, {"entries": 1}, {"release": 1}],
    ids=str,
)
def test_a_ledger_that_was_changed_through_the_api_stops_every_apply(
    client: SyncPrefectClient, write: Callable[[str], Files], damage: dict[str, object]
) -> None:
    files = write("alerts: {enabled: false}\nvariables: {region: {value: eu}}\n")
    commands.apply(client, files, context_of(files), prune=True)
    document = read_ledger(client).document
    client.request(
        "PATCH",
        "/block_documents/{id}",
        path_params={"id": document},
        json={"data": damage, "merge_existing_data": True},
    )
    told = "configuration-ledger/prefect-platform on the server has been changed by something other"

    try:
        for command in (commands.plan, commands.apply):
            with pytest.raises(PlatformError, match=told):
                command(client, files, context_of(files), prune=True)
    finally:
        delete(client, "/block_documents/{id}", id=document)
    assert commands.apply(client, files, context_of(files), prune=True)


def test_queues_can_swap_priorities(
    client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """Prefect shifts other queues when one gets a priority; in the end all are as declared."""
    queues = "{a: {priority: %d}, b: {priority: %d}, default: {priority: %d}}"
    text = f"{{alerts: {{enabled: false}}, work_pools: {{default: {{queues: {queues}}}}}}}"
    for priorities in ((1, 2, 3), (3, 1, 2), (2, 3, 1)):
        files = write(text % priorities)
        commands.apply(client, files, context_of(files), prune=True)
        assert plan(client, files, prune=True) == []


def test_an_interrupted_apply_is_completed_by_the_next_one(
    client: SyncPrefectClient, write: Callable[[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server becomes unreachable midway; completed steps are owned, and the rest follows."""
    # The interrupted apply cannot release its lock, and the next one would wait for a minute.
    monkeypatch.setattr(apply_module, "exclusive", partial(exclusive, timings=LockTimings(stale=1)))
    files = write(_FILE)
    real, calls = client.request, 0

    def failing_on_the_second_creation(method: str, path: str, **rest: object) -> httpx.Response:
        nonlocal calls
        calls += method == "POST" and path in ("/v2/concurrency_limits/", "/work_pools/")
        if calls == 2:
            raise httpx.ConnectError("gone")
        return real(method, path, **rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(client, "request", failing_on_the_second_creation)
        with pytest.raises(httpx.ConnectError):
            commands.apply(client, files, context_of(files), prune=True)
        calls = 3
    names = {action for action, _ in plan(client, files)}
    assert names == {Action.CREATE.value}
    assert plan(client, write("alerts: {enabled: false}\n"), prune=True) != []
    files = write(_FILE)
    commands.apply(client, files, context_of(files), prune=True)
    assert plan(client, files, prune=True) == []


def _apply_in_own_process(api: str, files: Files, barrier: Barrier) -> None:
    barrier.wait()
    with prefect_api(api, None) as client:
        commands.apply(client, files, context_of(files), prune=True)


def test_two_concurrent_applies_both_succeed(
    api: str, client: SyncPrefectClient, write: Callable[[str], Files]
) -> None:
    """The lock lets one wait for the other, and the server is as declared in the end."""
    files = write(_FILE)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [
        context.Process(target=_apply_in_own_process, args=(api, files, barrier)) for _ in range(2)
    ]
    for each in both:
        each.start()
    for each in both:
        each.join(120)
    assert [each.exitcode for each in both] == [0, 0]
    assert plan(client, files, prune=True) == []


def test_the_lock_is_taken_over_from_a_dead_holder_but_not_from_a_live_one(
    client: SyncPrefectClient,
) -> None:
    """A lock that is no longer renewed is deleted; an apply waits for one that is renewed."""
    client.request("POST", "/variables/", json={"name": LOCK, "value": '{"holder": "dead"}'})
    with exclusive(client, LockTimings(renew=0.2, stale=1, poll=0.1)) as held:
        with (
            pytest.raises(PlatformError, match="another apply has held the lock of this server"),
            # Long enough for many renewals, like the default: on a busy machine, one takes seconds.
            exclusive(client, LockTimings(stale=10, wait=12, poll=0.1)),
        ):
            pass
        held.require()
    assert client.request("POST", "/variables/filter", json={}).json() == []


def test_a_holder_that_lost_the_lock_stops(client: SyncPrefectClient) -> None:
    """After another apply took over, the first one may not change anything."""
    with exclusive(client, LockTimings(renew=30)) as held:
        client.request("DELETE", "/variables/name/{name}", path_params={"name": LOCK})
        with pytest.raises(PlatformError, match="took over"):
            held.confirm()
    with exclusive(client, LockTimings(renew=0.1)) as held:
        client.request("DELETE", "/variables/name/{name}", path_params={"name": LOCK})
        held.lost.wait(10)
        with pytest.raises(PlatformError, match="took over"):
            held.require()


@pytest.mark.parametrize("version", ["3.0.0", "99.0.0"])
def test_between_the_upgrades_of_server_and_worker_nothing_is_changed(
    client: SyncPrefectClient,
    write: Callable[[str], Files],
    monkeypatch: pytest.MonkeyPatch,
    version: str,
) -> None:
    """Whichever is upgraded first, the error names both versions."""
    files = write(_FILE)
    with monkeypatch.context() as patch:
        patch.setattr("prefect.__version__", version)
        with pytest.raises(
            PlatformError,
            match=rf"Prefect 3\.\d+\.\d+, but this program is for Prefect {re.escape(version)}",
        ):
            commands.apply(client, files, context_of(files), prune=True)
    assert client.read_work_pools() == []


def test_the_address_of_an_unreachable_server_is_named() -> None:
    """The error says which address does not answer."""
    with (
        pytest.raises(PlatformError, match=r"http://127\.0\.0\.1:9/api does not answer"),
        prefect_api("http://127.0.0.1:9/api", None) as client,
    ):
        client.request("GET", "/admin/version")


def test_a_refused_login_names_the_secret_with_the_auth_string(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The error does not repeat the wrong auth string."""
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
