"""Plan the changes that reconcile a server with the files."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.configuration.core.order import in_order, place
from prefect_platform.configuration.core.resource import (
    Declared,
    Found,
    Inventory,
    Key,
    Kind,
    ResourceType,
)
from prefect_platform.configuration.core.secret_values import conceal, replaced
from prefect_platform.configuration.core.source import ConfigurationError, Problem
from prefect_platform.configuration.core.unloaded import Unloaded, may_be
from prefect_platform.configuration.reconcile import ledger as ledgers
from prefect_platform.configuration.reconcile.ledger import Ledger


class Action(StrEnum):
    """What is done to a resource."""

    CREATE = "create"
    UPDATE = "update"
    ADOPT = "adopt"
    """The resource is as declared already, and is added to the ledger."""
    DELETE = "delete"
    FORGET = "forget"
    """The resource is no longer declared and need not be deleted; the ledger drops it."""


@dataclass(frozen=True)
class Change:
    """One step of a plan."""

    action: Action
    key: Key
    declared: Declared | None = None
    found: Found | None = None


@dataclass(frozen=True)
class Plan:
    """The steps in order.

    `unpruned` are owned resources that --prune would have deleted. `waiting` are automations that
    cannot be created or updated until the flow of a deployment can be loaded.
    """

    changes: Sequence[Change]
    unpruned: Sequence[Key]
    waiting: Sequence[Declared]


def read(client: SyncPrefectClient, types: Iterable[ResourceType]) -> Inventory:
    """Return all resources of these kinds on the server, except the ledger itself."""
    inventory = Inventory()
    for each in types:
        inventory.add(found for found in each.read(client, inventory) if found.key != ledgers.KEY)
    return inventory


def make_plan(
    declared: Sequence[Declared],
    inventory: Inventory,
    ledger: Ledger,
    *,
    prune: bool,
    unloaded: Sequence[Unloaded] = (),
) -> Plan:
    """Return the plan, which changes none of the deployments that may be `unloaded`.

    Raises ConfigurationError when a resource needs one that is neither declared nor on the server,
    or that would be pruned, and when resources need each other.
    """
    by_key = {each.key: each for each in declared}
    undeclared = [key for key in ledger.secrets if key not in by_key and not may_be(key, unloaded)]
    doomed = set(undeclared) if prune else set()
    _refuse_missing(declared, by_key, inventory, doomed, unloaded)
    waiting = _waiting(declared, inventory)
    changes = [
        change
        for each in in_order(declared)
        if each not in waiting
        and (change := _change(each, _concealed(each, inventory, ledger), ledger))
    ]
    removals = [
        Change(Action.DELETE, key, found=found)
        if (found := inventory.get(key)) and not _goes_with_its_pool(key, undeclared)
        else Change(Action.FORGET, key)
        for key in sorted(undeclared, key=place, reverse=True)
    ]
    unpruned = [change.key for change in removals if change.action is Action.DELETE]
    return Plan([*changes, *removals] if prune else changes, [] if prune else unpruned, waiting)


def compared(declared: Declared, found: Found) -> Mapping[str, Any]:
    """Return the fields of the found body that the file declares; the others are left alone."""
    return {name: value for name, value in found.body.items() if name in declared.body}


def _concealed(declared: Declared, inventory: Inventory, ledger: Ledger) -> Found | None:
    """Return the found resource, with all values hidden that the file or the ledger refers to.

    Prefect marks few fields as secret; the URL of a webhook, which contains a token, is not.
    """
    found = inventory.get(declared.key)
    if found is None:
        return None
    body: Any = found.body
    known = [tuple(each["at"]) for each in ledger.secrets.get(declared.key, [])]
    for steps in [*declared.secrets, *known]:
        body = replaced(body, steps, conceal)
    return dataclasses.replace(found, body=body)


def _change(declared: Declared, found: Found | None, ledger: Ledger) -> Change | None:
    if found is None:
        return Change(Action.CREATE, declared.key, declared)
    if compared(declared, found) != declared.body:
        return Change(Action.UPDATE, declared.key, declared, found)
    if not ledger.knows(declared):
        return Change(Action.ADOPT, declared.key, declared, found)
    return None


def _goes_with_its_pool(key: Key, removed: Collection[Key]) -> bool:
    """Return whether a queue need not be deleted: with its pool, or as the pool's default."""
    pool, _, queue = key.name.partition("/")
    return key.kind is Kind.WORK_QUEUE and (
        queue == "default" or Key(Kind.WORK_POOL, pool) in removed
    )


def _waiting(declared: Sequence[Declared], inventory: Inventory) -> list[Declared]:
    """Return the automations that need the id of a deployment that was never created.

    Other resources, such as the grants of a pool, need only its name.
    """
    known = {each.key for each in declared if each.key.kind is not Kind.AUTOMATION}
    waiting = []
    for each in in_order(declared):
        if each.key.kind is Kind.AUTOMATION:
            if all(need in known or inventory.get(need) for need in each.needs):
                known.add(each.key)
            else:
                waiting.append(each)
    return waiting


def _refuse_missing(
    declared: Iterable[Declared],
    by_key: Mapping[Key, Declared],
    inventory: Inventory,
    doomed: set[Key],
    unloaded: Sequence[Unloaded],
) -> None:
    problems = []
    for each in declared:
        for need in sorted(each.needs - by_key.keys()):
            if may_be(need, unloaded):
                continue
            cause = None
            if inventory.get(need) is None:
                cause = f"{each.key} needs the {need}, which is neither declared nor on the server"
            elif need in doomed:
                cause = (
                    f"{each.key} needs the {need}, which is no longer declared and would be pruned"
                )
            if cause:
                problems.append(Problem(each.at, cause, "declare it, or correct the name"))
    if problems:
        raise ConfigurationError(problems)
