"""Print the results of the commands."""

import datetime as dt
import shlex
import socket
from collections.abc import Iterable, Mapping, Sequence

from kubernetes import client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterStartTime,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from prefect_platform.console import out
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.provider import ClusterProvider
from prefect_platform_cli.deploy.connection import connected, server_url
from prefect_platform_cli.deploy.image_bases import deployed_bases
from prefect_platform_cli.deploy.platform import Outcome
from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.doctor.components import base_job_templates
from prefect_platform_cli.doctor.concurrency_limits import Holder, Limit
from prefect_platform_cli.doctor.isolation import Cell
from prefect_platform_cli.doctor.pools import Wall, template_states
from prefect_platform_cli.doctor.waiting_runs import waiting_runs
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.workloads import Unready, unready_pods

_SHOW_LOGIN = (
    "kubectl --namespace prefect get secret prefect-auth "
    '--output go-template=\'{{index .data "auth-string" | base64decode}}{{"\\n"}}\''
)
_SYSTEM = ("kube-system", "local-path-storage", "argocd")
_SUCCEEDED_LISTED = 3  # more pods that have succeeded are only counted
_PAGE = 200  # the most log lines that the server returns for one request
_SERVICE = f"{names.SERVER_RELEASE}.{names.SERVER_NAMESPACE}.svc.cluster.local:4200"


def print_deployed(
    provider: ClusterProvider, outcome: Outcome, day: dt.date, *, changed: bool
) -> None:
    """Print where the platform and the results of its first run are, and what to type next."""
    run = outcome.run
    kubectl = Kubectl(provider.kubeconfig())
    core = client.CoreV1Api(kubectl.api())
    table = _table(
        "The platform is running" if changed else "Nothing changed: the platform is running"
    )
    for namespace in names.NAMESPACES:
        pods = {
            pod.metadata.name: pod.status.phase for pod in core.list_namespaced_pod(namespace).items
        }
        table.add_row(f"namespace {namespace}", "\n".join(pod_lines(pods)))
    table.add_row("URL", f"{server_url(kubectl, _SERVICE)} (make ui)")
    table.add_row("flow run", escape(f"{run.name}: {run.state_name}"))
    table.add_row("Job", escape((run.infrastructure_pid or "unknown").rpartition(":")[2]))
    table.add_row("pod", _pod_of(core, run))
    table.add_row("warehouse", f"{outcome.rows} rows in daily_delays for {day}")
    table.add_row("object store", f"s3://artifacts/etl-daily/{day}.parquet")
    out.print(table)
    out.print("To use kubectl and docker:")
    for name, value in provider.environment().items():
        quoted = f'"{value}"' if "$" in value else shlex.quote(value)
        out.print(f"  export {name}={quoted}")
    out.print("Next: make ui, make status, make logs, kubectl --namespace flows-default get pods")


def pod_lines(phases: Mapping[str, str]) -> list[str]:
    """Return a line for each pod by its name and phase, and one for all of many that succeeded."""
    succeeded = [name for name, phase in phases.items() if phase == "Succeeded"]
    counted = succeeded if len(succeeded) > _SUCCEEDED_LISTED else []
    lines = [f"{name} {phase}" for name, phase in phases.items() if name not in counted]
    if counted:
        lines.append(f"{len(counted)} pods Succeeded")
    return lines or ["no pods"]


def print_status(provider: ClusterProvider) -> None:
    """Print facts of the cluster, its components and releases, and what is not ready or waits."""
    status = provider.status()
    table = _table("Status")
    for label, value in status.facts:
        table.add_row(label, value)
    if not status.running:
        out.print(table)
        return
    kubectl = Kubectl(provider.kubeconfig())
    api = kubectl.api()
    core = client.CoreV1Api(api)
    for node in core.list_node().items:
        ready = next(c for c in node.status.conditions if c.type == "Ready")
        unschedulable = ", cordoned" if node.spec.unschedulable else ""
        state = "Ready" if ready.status == "True" else f"not ready: {ready.message}"
        table.add_row("kubelet", escape(f"{node.metadata.name}: {state}{unschedulable}"))
    existing = {item.metadata.name for item in core.list_namespace().items}
    for namespace in _SYSTEM:
        if namespace in existing:
            table.add_row("component", _ready_count(core, api, namespace))
    for release in installed(kubectl):
        table.add_row(
            "release",
            f"{release['namespace']}/{release['name']} {release['chart']}: {release['status']}, "
            f"revision {release['revision']}",
        )
    now = dt.datetime.now(dt.UTC)
    try:
        for base in deployed_bases(api):
            table.add_row("base image", escape(base.describe(now)))
            if renewal := base.renewal(now):
                table.add_row("[yellow]old base[/]", escape(renewal))
    except PlatformError as error:
        table.add_row("[yellow]base image[/]", escape(str(error)))
    unready = [
        pod
        for namespace in (*_SYSTEM, *names.NAMESPACES)
        if namespace in existing
        for pod in unready_pods(api, namespace, with_logs=True)
    ]
    for pod in unready:
        table.add_row("[red]not ready[/]", escape(str(pod)))
    if not unready:
        table.add_row("not ready", "none")
    for label, value in _on_the_server(kubectl, core, unready):
        table.add_row(label, escape(value))
    out.print(table)


def print_ui(kubectl: Kubectl, url: str) -> None:
    """Print the address of the user interface and the command that prints its password."""
    out.print(f"Prefect: {url} (Ctrl-C stops the port-forward)")
    out.print("User and password are in a Secret. This command prints them as USER:PASSWORD:")
    out.print(f"  KUBECONFIG={kubectl.kubeconfig} {_SHOW_LOGIN}", markup=False)


def print_logs(prefect: SyncPrefectClient, name: str | None) -> None:
    """Print the logs of the newest flow run, or of the newest one called `name`."""
    wanted = FlowRunFilter(
        name=FlowRunFilterName(any_=[name]) if name else None,
        start_time=FlowRunFilterStartTime(is_null_=False),
    )
    runs = prefect.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=1)
    if not runs:
        raise PlatformError(
            f"no flow run called {name} has started" if name else "no flow run has started yet",
            next_step="make ui, which shows the flow runs",
        )
    run = runs[0]
    out.print(f"{run.name}: {run.state_name}", markup=False)
    offset = 0
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    while page := prefect.read_logs(of_run, limit=_PAGE, offset=offset, sort=LogSort.TIMESTAMP_ASC):
        for line in page:
            out.print(f"{line.timestamp:%H:%M:%S} {line.message}", markup=False)
        offset += len(page)


def print_limits(limits: Iterable[Limit], name: str | None) -> None:
    """Print each limit, or only those called `name`, with a line for each holder."""
    shown = [limit for limit in limits if name in {None, limit.name}]
    if name and not shown:
        raise PlatformError(
            f"no concurrency limit is called {name}", next_step="prefect-platform limits"
        )
    table = Table(title="Concurrency limits", title_justify="left", box=SIMPLE_HEAD)
    for column in ("limit", "slots", "waiting", "held by", "since (UTC)"):
        table.add_column(column, overflow="fold")
    for limit in shown:
        held = [_holder(holder) for holder in limit.holders]
        if limit.unattributed and limit.kind != "rate":
            held.append((f"[yellow]{limit.unattributed} without a known holder[/]", ""))
        first, *others = held or [("", "")]
        waiting = "" if limit.waiting is None else str(limit.waiting)
        called = escape(f"{limit.kind} {limit.name}")
        table.add_row(called, f"{limit.taken}/{limit.total}", waiting, *first)
        for each in others:
            table.add_row("", "", "", *each)
    out.print(table)


def print_isolation(cells: Sequence[Cell]) -> None:
    """Print the connections, a column for each source, and mark those that are not as declared."""
    table = Table(
        title="Allowed and denied connections",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("to \\ from", no_wrap=True)
    for source in dict.fromkeys(cell.source for cell in cells):
        table.add_column(source, overflow="fold")
    reasons = list(dict.fromkeys(cell.unproven for cell in cells if cell.unproven))
    for target in dict.fromkeys(str(cell.place) for cell in cells):
        row = [cell for cell in cells if str(cell.place) == target]
        table.add_row(target, *(_cell(cell, reasons) for cell in row))
    out.print(table)
    for number, reason in enumerate(reasons, 1):
        out.print(f"({number}) not probed: {reason}", markup=False)


def print_walls(walls: Sequence[Wall]) -> None:
    """Print what confines the runs of each work pool, and mark what is missing."""
    table = Table(title="What confines the runs", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("work pool")
    for name in dict.fromkeys(wall.name for wall in walls):
        table.add_column(name)
    for pool in dict.fromkeys(wall.pool for wall in walls):
        row = ["[bold red]✗[/]" if wall.fault else "yes" for wall in walls if wall.pool == pool]
        table.add_row(escape(pool), *row)
    out.print(table)


def refuse_busy_port(port: int) -> None:
    """Raise PlatformError when a program on this machine already listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PlatformError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}",
                next_step=f"make ui PORT={port + 1}",
            ) from error


def _on_the_server(
    kubectl: Kubectl, core: client.CoreV1Api, unready: Sequence[Unready]
) -> list[tuple[str, str]]:
    """Return the rows about work pools and about runs that wait."""
    # kubectl waits a minute for a pod that is not ready.
    if any(pod.namespace == names.SERVER_NAMESPACE for pod in unready):
        return [("work pool", "not compared with the chart, because prefect-server is not ready")]
    try:
        templates = base_job_templates(core)
        with connected(kubectl) as prefect:
            states, waiting = template_states(prefect, templates), waiting_runs(prefect)
    except PlatformError as error:
        return [("work pool", f"not compared with the chart: {error.message}")]
    return [
        *(("work pool", state) for state in states),
        *(("waiting run", line) for line in waiting or ["none"]),
    ]


def _cell(cell: Cell, reasons: Sequence[str]) -> str:
    if cell.unproven:
        return f"[dim]({reasons.index(cell.unproven) + 1})[/]"
    seen = "allowed" if cell.reached else "denied"
    return f"[bold red]✗ {seen}[/]" if cell.wrong else seen


def _holder(holder: Holder) -> tuple[str, str]:
    """Return the cells of a holder: the run with its state, and since when."""
    slots = f"{holder.slots} slots: " if holder.slots > 1 else ""
    deployment = f" of {holder.deployment}" if holder.deployment else ""
    state = f"[bold red]✗ {escape(holder.state)}[/]" if holder.ended else escape(holder.state)
    since = f"{holder.since.astimezone(dt.UTC):%Y-%m-%d %H:%M}" if holder.since else ""
    return f"{escape(slots + holder.run + deployment)}: {state}", since


def _pod_of(core: client.CoreV1Api, run: FlowRun) -> str:
    selector = f"prefect.io/flow-run-id={run.id}"
    pods = core.list_pod_for_all_namespaces(label_selector=selector).items
    names = [f"{pod.metadata.namespace}/{pod.metadata.name}" for pod in pods]
    return ", ".join(names) or "deleted with its finished Job; the logs are kept (make logs)"


def _ready_count(core: client.CoreV1Api, api: client.ApiClient, namespace: str) -> str:
    pods = core.list_namespaced_pod(namespace).items
    return f"{namespace}: {len(pods) - len(unready_pods(api, namespace))} of {len(pods)} pods ready"


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
