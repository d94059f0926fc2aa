"""Show how another release changes the parts of Prefect that the platform replaces or copies.

`make upstream` compares the installed packages with the newest ones of the package index. FROM and
TO name two versions of Prefect, such as 3.8.8 and 3.9.1. Nothing is installed.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from prefect_platform.console import out
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.process import run

PREFECT = "prefect"
_MIGRATIONS = "prefect/server/database/_migrations/versions/"
_OURS = ("flows", "src", "tests")


@dataclass(frozen=True)
class Followed:
    """A function of another package, and our module that has to follow its changes."""

    package: str
    function: str
    """Its module and its name, separated by a colon."""
    checksum: str
    """The checksum of its source when our module was last compared with it."""
    ours: str


FOLLOWED = tuple(
    Followed(package, function, checksum, f"src/prefect_platform/{ours}.py")
    for (ours, package), functions in {
        ("plugins/first_connection", PREFECT): (
            ("prefect.client.base:PrefectHttpxAsyncClient.send", "2f72a5a31f09"),
            ("prefect.client.base:PrefectHttpxSyncClient.send", "d7fa4eeac4bc"),
            ("prefect.events.clients:PrefectEventsClient.__aenter__", "9fd180b7f8e2"),
            ("prefect.events.clients:PrefectEventsClient._auth_handshake", "827a1a68519b"),
            ("prefect.runner._event_emitter:EventEmitter.__aenter__", "9b90d73fafd2"),
        ),
        ("plugins/result_writes", PREFECT): (
            ("prefect.flow_engine:AsyncFlowRunEngine.handle_success", "c7a6ae92ed9c"),
            ("prefect.flow_engine:FlowRunEngine.handle_success", "58f60dfd6c79"),
            ("prefect.results:ResultStore.apersist_result_record", "05abbadfed9d"),
            ("prefect.results:ResultStore.persist_result_record", "25bdac1be8ab"),
            ("prefect.states:return_value_to_state", "ce1b8d738648"),
            ("prefect.task_engine:AsyncTaskRunEngine.handle_success", "209e4cd87e96"),
            ("prefect.task_engine:BaseTaskRunEngine.handle_rollback", "a6d7c9743086"),
            ("prefect.task_engine:SyncTaskRunEngine.handle_success", "23b3947fba1b"),
            ("prefect.transactions:AsyncTransaction.__aexit__", "3efd66702a6f"),
            ("prefect.transactions:AsyncTransaction.commit", "511a6628688f"),
            ("prefect.transactions:Transaction.__exit__", "ba405ff7871d"),
            ("prefect.transactions:Transaction.commit", "c7e1e020b6f4"),
        ),
        ("flow_run/engine_process", PREFECT): (
            ("prefect.runner._process_manager:ProcessHandle", "ee5a7fc1a23a"),
            ("prefect.runner._starter_engine:EngineCommandStarter.start", "b3842d135e5a"),
            ("prefect.utilities.processutils:open_process", "24714cd5b32a"),
        ),
        ("flow_run/engine", PREFECT): (
            ("prefect.deployments.steps.core:run_steps", "55ba6613ffde"),
            ("prefect.deployments.steps.pull:git_clone", "4310ecefe856"),
            ("prefect.deployments.steps.pull:set_working_directory", "c1e5eaf1898c"),
            ("prefect.runner._workspace_resolver:prepare_workspace", "345ae6152dec"),
            ("prefect.runner._workspace_starter:workspace_environment", "e4afafba3037"),
            ("prefect.runner._workspace_supervisor:_hook_command", "85ba68966af8"),
            ("prefect.runner._workspace_supervisor:_launch_engine", "501e9ef53c14"),
            ("prefect.runner._workspace_supervisor:main", "a5027a2e670d"),
            ("prefect.runner._workspace_supervisor:supervise", "634c30bba202"),
        ),
        ("flow_run/hook", PREFECT): (
            ("prefect:_initialize_plugins", "783fd5da4352"),
            ("prefect.runner._workspace_runtime_bootstrap:main", "edcc01d8d53e"),
        ),
        ("flow_run/certificates", PREFECT): (
            ("prefect.client.orchestration:PrefectClient.__init__", "2619331e20ad"),
            ("prefect.client.orchestration:SyncPrefectClient.__init__", "c5b9a41b666e"),
        ),
        ("flow_run/heartbeats", PREFECT): (
            ("prefect.flow_engine:_send_heartbeats", "83e152cb73a0"),
        ),
        ("flow_run/supervisor", PREFECT): (
            ("prefect.cli._app:_setup_and_run", "0fd68e4fba10"),
            ("prefect.cli._app:app", "9fc51ec2fa6c"),
            ("prefect.cli.flow_run:execute", "6e9497545b7c"),
            ("prefect.logging.configuration:setup_logging", "0914fd490f52"),
        ),
        ("server/background_services", PREFECT): (
            ("prefect.cli._server_utils:_run_all_services", "7eddfa4c4e6d"),
            ("prefect.server.api.background_workers:background_worker", "6f10ff5f0187"),
            ("prefect.server.services.base:Service.running", "36fe28390f5e"),
        ),
        ("plugins/notification_delivery", PREFECT): (
            (
                "prefect.blocks.notifications:AbstractAppriseNotificationBlock.notify",
                "4c0fcfbe0f2f",
            ),
            (
                "prefect.server.events.actions:SendNotification._get_notification_block",
                "252ce13c5b96",
            ),
            ("prefect.server.events.actions:SendNotification.act", "a953a912a912"),
            ("prefect.server.events.actions:_load_block_from_block_document", "163922dbc5f4"),
            ("prefect.server.events.actions:consumer", "20cf786f4385"),
            ("prefect.server.events.services.actions:Actions.start", "71910435a7ba"),
            (
                "prefect.server.events.actions:CallWebhook._get_webhook_block",
                "14a3c1a0faec",
            ),
            ("prefect.server.events.actions:CallWebhook.act", "fb7b184a1572"),
            ("prefect.blocks.webhook:Webhook.call", "9b0529cb7ccd"),
        ),
        ("plugins/previous_auth_string", PREFECT): (
            ("prefect.server.api.server:token_validation", "db7062686898"),
            ("prefect.server.utilities.subscriptions:accept_prefect_socket", "dc5393573ad1"),
        ),
        ("plugins/deployment_slots", PREFECT): (
            ("prefect.server.orchestration.core_policy:_release_concurrency_lease", "6fa9c17d11ec"),
            ("prefect.server.services.repossessor:revoke_expired_lease", "ff57573e5177"),
        ),
        ("plugins/slot_leases", PREFECT): (
            (
                "prefect.server.api.concurrency_limits:increment_concurrency_limits_v1",
                "54be7845611e",
            ),
            (
                "prefect.server.api.concurrency_limits:reset_concurrency_limit_by_tag",
                "bf70dba070d6",
            ),
            (
                "prefect.server.api.concurrency_limits_v2:bulk_increment_active_slots_with_lease",
                "0cdf3733c7e2",
            ),
            (
                "prefect.server.models.concurrency_limits_v2:bulk_decrement_active_slots",
                "3f8484c435f4",
            ),
        ),
        ("plugins/slot_leases", "prefect-redis"): (
            ("prefect_redis.lease_storage:ConcurrencyLeaseStorage.create_lease", "485123ceec9c"),
        ),
        ("plugins/api_tls", PREFECT): (
            ("prefect.cli._server_utils:_run_in_foreground", "306cc417fe32"),
        ),
        ("plugins/security_headers", PREFECT): (
            ("prefect.server.api.server:create_app", "0f896a78bc06"),
        ),
        ("plugins/run_identity", PREFECT): (
            ("prefect.server.api.events:stream_events_in", "614012707cab"),
            ("prefect.server.api.events:stream_workspace_events_out", "da5dfd011c94"),
            ("prefect.server.api.server:create_api_app", "a7ab36fe3c52"),
            ("prefect.server.api.server:token_validation", "db7062686898"),
            ("prefect.server.services.task_run_recorder:task_run_from_event", "b665d0a8bb2e"),
            ("prefect.server.utilities.subscriptions:accept_prefect_socket", "dc5393573ad1"),
        ),
        ("plugins/pod_token", PREFECT): (
            ("prefect._internal.version_checking:check_server_version", "00dafae2aef3"),
            ("prefect.events.clients:PrefectEventSubscriber._reconnect", "c6beb299cbb9"),
            ("prefect.events.clients:PrefectEventsClient._auth_handshake", "827a1a68519b"),
        ),
        ("configuration/blocks/secret_fields", PREFECT): (
            ("prefect.blocks.core:Block._field_has_secrets", "e4b8c644e43e"),
        ),
        ("worker/channel_token", PREFECT): (
            (
                "prefect.workers._worker_channel._protocol:WorkerChannelProtocolHandler._auth_token",
                "191fe67802c2",
            ),
        ),
        ("worker/due_runs", PREFECT): (
            ("prefect._internal._observation_delivery:ObservationDelivery", "606654b40a5e"),
            ("prefect.server.models.events:flow_run_state_change_event", "d3e529f2654a"),
        ),
        ("worker/job_configuration", PREFECT): (
            ("prefect.workers.base:BaseJobConfiguration._base_environment", "e333c641b571"),
            ("prefect.workers.base:BaseJobConfiguration.from_template_and_values", "04d465648ed8"),
            ("prefect.workers.base:BaseJobConfiguration.prepare_for_flow_run", "d0f349f79055"),
            ("prefect.workers.base:BaseJobConfiguration.resolve_for_flow_run", "a322d7fd74d0"),
        ),
        ("worker/job_configuration", "prefect-kubernetes"): (
            (
                "prefect_kubernetes.worker:KubernetesWorkerJobConfiguration.prepare_for_flow_run",
                "f90179abef11",
            ),
        ),
        ("worker/kubernetes_worker", PREFECT): (
            ("prefect.cli.worker:start", "6d339f6cedbb"),
            ("prefect.workers.base:BaseWorker._get_scheduled_flow_runs", "1789a9c7ede4"),
            ("prefect.workers.base:BaseWorker._initialize_after_sync", "bf6e3752b980"),
            ("prefect.workers.base:BaseWorker._propose_crashed_state", "a260d47608c4"),
            ("prefect.workers.base:BaseWorker._record_work_pool_snapshot", "33f175fda95e"),
            ("prefect.workers.base:BaseWorker._submit_run", "835f04932097"),
            ("prefect.workers.base:BaseWorker._submit_run_and_capture_errors", "3947a275944c"),
            ("prefect.workers.base:BaseWorker.teardown", "282f27b5627e"),
            ("prefect.workers.server:_build_healthcheck_server", "111cb2f1a37d"),
        ),
        ("worker/kubernetes_worker", "prefect-kubernetes"): (
            ("prefect_kubernetes.worker:KubernetesWorker.run", "b4a1cfb30def"),
        ),
        ("worker/submission", PREFECT): (
            ("prefect.workers.base:BaseWorker._propose_pending_state", "8d1630c3bc20"),
        ),
        ("worker/observer", "prefect-kubernetes"): (
            ("prefect_kubernetes.observer:_observer_thread_entry", "9ae29a43a217"),
            ("prefect_kubernetes.observer:start_observer", "535f45c848ea"),
            ("prefect_kubernetes.observer:stop_observer", "a3eb7ec5cef2"),
        ),
        ("worker/observer", "kopf"): (
            ("kopf._core.reactor.orchestration:orchestrator", "66940532ced8"),
            ("kopf._core.reactor.orchestration:spawn_missing_watchers", "9a331abda3f1"),
        ),
    }.items()
    for function, checksum in functions
)
"""Every function whose changes must be reviewed; a test compares the checksums."""


@dataclass(frozen=True)
class Release:
    """The sources of one version of a package."""

    name: str
    files: Mapping[str, str]
    """The text of each module by its path below site-packages."""

    def module(self, name: str) -> str | None:
        """Return the text of a module, or None if there is no module of that name."""
        path = name.replace(".", "/")
        return self.files.get(f"{path}.py", self.files.get(f"{path}/__init__.py"))

    def function(self, function: str) -> str | None:
        """Return the source of a function given as module:name, or None if it does not exist."""
        module, _, name = function.partition(":")
        text = self.module(module)
        return None if text is None else source_of(text, name)

    def has(self, module: str, name: str) -> bool:
        """Return whether a module contains the name, or has a submodule of that name."""
        text = self.module(module) or ""
        return bool(re.search(rf"\b{name}\b", text)) or self.module(f"{module}.{name}") is not None

    @property
    def migrations(self) -> list[str]:
        """The database migrations, sorted by name."""
        return sorted(path for path in self.files if path.startswith(_MIGRATIONS))


@cache  # most modules and functions are the same in both releases
def source_of(module: str, name: str) -> str | None:
    """Return the source of a function in a module, with its decorators; None if there is none."""
    node: ast.AST = _parsed(module)
    for part in name.split("."):
        found = [
            each
            for each in ast.walk(node)
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and each.name == part
        ]
        if not found:
            return None
        node = found[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return "".join(module.splitlines(keepends=True)[first - 1 : node.end_lineno])


@cache  # many functions are of one module
def _parsed(module: str) -> ast.Module:
    return ast.parse(module)


def checksum(source: str) -> str:
    """Return the checksum of a source, as in `Followed.checksum`."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def changes(package: str, before: Release, after: Release) -> Iterator[str]:
    """Yield the changes to review before the platform runs with `after`, a paragraph each."""
    for each in FOLLOWED:
        old, new = before.function(each.function), after.function(each.function)
        if each.package == package and old != new:
            lines, changed = (old or "").splitlines(), (new or "").splitlines()
            difference = unified_diff(lines, changed, before.name, after.name, lineterm="")
            yield "\n".join([f"{each.function}, which {each.ours} follows:", *difference])
    for (module, name), users in sorted(_imported(package).items()):
        if before.has(module, name) and not after.has(module, name):
            yield f"{module} no longer has {name}: {', '.join(sorted(users))}"
    yield from (
        f"a new migration: {script.removeprefix(_MIGRATIONS)}"
        for script in after.migrations
        if script not in before.migrations
    )


def _imported(package: str) -> dict[tuple[str, str], set[str]]:
    """Return our files that import a name from the package, by module and name."""
    root = package.replace("-", "_")
    users: dict[tuple[str, str], set[str]] = {}
    for path in (each for folder in _OURS for each in (REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{root}."):
                for name in node.names:
                    where = str(path.relative_to(REPOSITORY))
                    users.setdefault((str(node.module), name.name), set()).add(where)
    return users


@cache
def installed(package: str) -> Release:
    """Return the installed version of a package."""
    found = distribution(package)
    files = {
        str(path): path.read_text()
        for path in found.files or ()
        if path.suffix == ".py" and not path.is_absolute()
    }
    return Release(f"{package} {found.version}", files)


def download(package: str, wanted: str) -> Release:
    """Return a version of a package from the package index, by default the newest release.

    Raises PlatformError if the index has no wheel of that version.
    """
    requirement = f"{package}=={wanted}" if wanted else package
    with TemporaryDirectory() as folder:
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--only-binary=:all:", "--dest", folder),
                requirement,
            ],
            failure=f"{requirement} cannot be downloaded",
            next_step="choose a version that the package index has a wheel of",
        )
        (wheel,) = Path(folder).iterdir()
        with ZipFile(wheel) as archive:
            files = {
                name: archive.read(name).decode()
                for name in archive.namelist()
                if name.endswith(".py")
            }
        return Release(f"{package} {wheel.name.split('-')[1]}", files)


def main(older: str, newer: str) -> None:
    """Print the changes of every package with a function in `FOLLOWED`."""
    for package in dict.fromkeys(each.package for each in FOLLOWED):
        wanted = (older, newer) if package == PREFECT else ("", "")
        before = download(package, wanted[0]) if wanted[0] else installed(package)
        after = download(package, wanted[1])
        out.rule(f"{before.name} -> {after.name}")
        for paragraph in changes(package, before, after):
            out.print(f"{paragraph}\n", markup=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except PlatformError as error:
        sys.exit(str(error))
