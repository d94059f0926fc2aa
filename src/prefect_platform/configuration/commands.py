"""The commands `validate`, `schedule`, `plan`, `apply` and `export`, for pods and laptops."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence

from prefect.client.orchestration import SyncPrefectClient
from rich.box import SIMPLE_HEAD
from rich.table import Table

from prefect_platform.configuration.core.context import Context, Offline
from prefect_platform.configuration.core.prefect_api import require_same_version
from prefect_platform.configuration.core.resource import Declared
from prefect_platform.configuration.core.unloaded import Unloaded, UnloadedFlowsError
from prefect_platform.configuration.deployments.schedule_preview import coming
from prefect_platform.configuration.kinds import SECTIONS, TYPES
from prefect_platform.configuration.platform_file import Files, load
from prefect_platform.configuration.reconcile import differences
from prefect_platform.configuration.reconcile.apply import apply as apply_all
from prefect_platform.configuration.reconcile.export import export as export_file
from prefect_platform.configuration.reconcile.ledger import read_ledger
from prefect_platform.configuration.reconcile.plan import Change, make_plan, read
from prefect_platform.console import out
from prefect_platform.errors import PlatformError

_LINES = 20  # printed per schedule, because one that runs every minute has 1440 runs a day


def validate(files: Files) -> None:
    """Check the files without a server; raises ConfigurationError with all problems."""
    declared = load(files, Offline())
    out.print(f"{files.platform} and {files.deployments} declare {len(declared)} resources")


def schedule(files: Files, start: dt.datetime, end: dt.datetime) -> None:
    """Print the runs that the schedules start between `start` and `end`, in their time zones."""
    found = coming(load(files, Offline()), start, end)
    lines: Counter[tuple[str, str]] = Counter()
    table = Table("local time", "deployment", "schedule", "notes", box=SIMPLE_HEAD)
    for run in found:
        by = (run.deployment, run.schedule)
        lines[by] += 1
        if lines[by] <= _LINES or run.marks:
            zone = f"{run.time:%z} {run.time.tzinfo}"
            marks = "\n".join(run.marks)
            table.add_row(f"{run.time:%a %Y-%m-%d %H:%M:%S} {zone}", *by, marks)
    out.print(table)
    for (deployment, name), count in lines.items():
        if count > _LINES:
            shown = f"the first {_LINES} of {count} runs, and those with notes"
            out.print(f"{deployment} {name}: {shown}")
    out.print(f"{len(found)} runs until {end:%Y-%m-%d %H:%M} UTC; paused schedules are left out")


def plan(client: SyncPrefectClient, files: Files, context: Context, *, prune: bool) -> bool:
    """Print what `apply` would do; return whether it would do anything.

    Raises PlatformError afterwards when the flows of some deployments cannot be loaded.
    """
    declared, unloaded = _load(files, context)
    require_same_version(client)
    ledger = read_ledger(client)
    ledger.claim(context.release)
    found = make_plan(declared, read(client, TYPES), ledger, prune=prune, unloaded=unloaded)
    for change in found.changes:
        _print(change)
    out.print(differences.summary(found))
    _refuse(unloaded, found.waiting)
    return bool(found.changes)


def apply(
    client: SyncPrefectClient, files: Files, context: Context, *, prune: bool, checksum: str = ""
) -> bool:
    """Reconcile the server with the files, printing each step; return whether anything changed.

    `checksum` is that of the configuration of a pod. Raises PlatformError when another one is
    applied in the meantime, and afterwards when the flows of some deployments cannot be loaded.
    """
    seen = read_ledger(client).handovers  # before the flows are loaded, which may take minutes
    declared, unloaded = _load(files, context)
    require_same_version(client)
    steps, waiting = apply_all(
        client,
        TYPES,
        declared,
        release=context.release,
        prune=prune,
        report=_print,
        unloaded=unloaded,
        checksum=checksum,
        seen=seen,
    )
    out.print(f"{steps} steps done" if steps else "Nothing to change: the server matches the files")
    _refuse(unloaded, waiting)
    return steps > 0


def export(client: SyncPrefectClient, context: Context) -> None:
    """Print the server's configuration as a platform.yaml."""
    require_same_version(client)
    written = export_file(SECTIONS, read(client, TYPES), read_ledger(client), context)
    out.print(written, markup=False, end="")


def _print(change: Change) -> None:
    for line in differences.lines(change):
        out.print(line)


def _load(files: Files, context: Context) -> tuple[Sequence[Declared], Sequence[Unloaded]]:
    try:
        return load(files, context), ()
    except UnloadedFlowsError as error:
        return error.declared, error.unloaded


def _refuse(unloaded: Sequence[Unloaded], waiting: Sequence[Declared]) -> None:
    if not unloaded:
        return
    lines = [
        f"deployment {each.name} ({each.problem.at}): {each.problem.cause}" for each in unloaded
    ]
    lines += [f"{each.key} ({each.at}): it waits for one of these deployments" for each in waiting]
    raise PlatformError(
        "\n  ".join(["these were not changed, because their flows cannot be loaded:", *lines]),
        next_step="correct the flows; `prefect-platform validate` loads them as well",
    )
