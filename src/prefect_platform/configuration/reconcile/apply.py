"""Reconcile a server with the files, and read it again to verify the result."""

from collections.abc import Callable, Sequence

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectException

from prefect_platform.api_failures import detail
from prefect_platform.configuration.core.lock import LockHandle, exclusive
from prefect_platform.configuration.core.resource import (
    Declared,
    Found,
    Inventory,
    Kind,
    ResourceType,
)
from prefect_platform.configuration.core.unloaded import Unloaded
from prefect_platform.configuration.reconcile.ledger import Ledger, read_ledger, write_ledger
from prefect_platform.configuration.reconcile.plan import Action, Change, Plan, make_plan, read
from prefect_platform.errors import PlatformError

_ROUNDS = 4


def apply(
    client: SyncPrefectClient,
    types: Sequence[ResourceType],
    declared: Sequence[Declared],
    *,
    release: str,
    prune: bool,
    report: Callable[[Change], None],
    unloaded: Sequence[Unloaded] = (),
    checksum: str = "",
    seen: int = 0,
) -> tuple[int, Sequence[Declared]]:
    """Apply plans until there is nothing left to change.

    Returns the number of steps done, and the automations that wait for a deployment whose flow
    cannot be loaded.

    Holds the server's lock. A resource is recorded in the ledger before it is created, and removed
    from it after it was deleted, so the next call can finish or remove whatever an interrupted call
    leaves. A call that had to wait for another apply prunes nothing, because its files may be
    older. Raises PlatformError, which names the resource, when the server refuses a change, when
    another release than `release` configures this server, and when a configuration with another
    `checksum` has been applied since the ledger had `seen` handovers.
    """
    done = 0
    # Setting the priority of a work queue changes others, which the next round corrects.
    rounds = _ROUNDS + sum(each.key.kind is Kind.WORK_QUEUE for each in declared)
    by_kind = {each.kind: each for each in types}
    with exclusive(client) as held:
        for _ in range(rounds):
            inventory, ledger = read(client, types), read_ledger(client)
            ledger.claim(release)
            if ledger.hand_over(checksum, seen):
                held.confirm()
                write_ledger(client, ledger)
            plan = make_plan(
                declared, inventory, ledger, prune=prune and not held.waited, unloaded=unloaded
            )
            if not plan.changes:
                return done, plan.waiting
            _record(client, ledger, plan, held)
            for change in plan.changes:
                held.require()
                _do(client, by_kind, inventory, change, done)
                report(change)
                done += 1
            _forget(client, ledger, plan, held)
    rest = ", ".join(str(change.key) for change in plan.changes)
    raise PlatformError(
        f"the server does not keep the declared settings of: {rest}",
        next_step="run prefect-platform plan to see the difference, and check whether another "
        "program changes the same resource",
    )


def _record(client: SyncPrefectClient, ledger: Ledger, plan: Plan, held: LockHandle) -> None:
    new = [
        change.declared
        for change in plan.changes
        if change.declared and not ledger.knows(change.declared)
    ]
    if new:
        held.confirm()
        ledger.record(new)
        write_ledger(client, ledger)


def _forget(client: SyncPrefectClient, ledger: Ledger, plan: Plan, held: LockHandle) -> None:
    gone = [
        change.key for change in plan.changes if change.action in (Action.DELETE, Action.FORGET)
    ]
    if gone:
        held.confirm()
        for key in gone:
            ledger.forget(key)
        write_ledger(client, ledger)


def _do(
    client: SyncPrefectClient,
    by_kind: dict[Kind, ResourceType],
    inventory: Inventory,
    change: Change,
    done: int,
) -> None:
    of_kind = by_kind[change.key.kind]
    try:
        match change:
            case Change(Action.CREATE, key, Declared() as declared):
                created = of_kind.create(client, inventory, declared)
                inventory.add([Found(key, created, declared.body)])
            case Change(Action.UPDATE, _, Declared() as declared, Found() as found):
                of_kind.update(client, inventory, declared, found)
            case Change(Action.DELETE, key, None, Found() as found):
                of_kind.delete(client, found)
                inventory.remove(key)
    except (httpx.HTTPStatusError, PrefectException) as error:
        if isinstance(error, httpx.HTTPStatusError):
            said = f"the server answered {detail(error.response)}"
        else:
            said = f"Prefect raised {type(error).__name__}"
        at = f" ({change.declared.at})" if change.declared else ""
        raise PlatformError(
            f"the {change.key}{at} could not be {_PAST[change.action]}: "
            f"{said}; {done} steps were done before it",
            next_step="correct the cause, then apply again: it continues from here",
        ) from error


_PAST = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted"}
