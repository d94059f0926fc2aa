"""A plan contains only the differences, in an order in which they can be applied."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from prefect_platform.configuration.core.resource import Declared, Found, Inventory, Key, Kind
from prefect_platform.configuration.core.secret_values import SecretValue
from prefect_platform.configuration.core.source import ConfigurationError, Location, Problem
from prefect_platform.configuration.core.unloaded import Unloaded
from prefect_platform.configuration.reconcile import differences
from prefect_platform.configuration.reconcile.ledger import Ledger
from prefect_platform.configuration.reconcile.plan import Action, Change, Plan, make_plan

_FILE = Location(Path("platform.yaml"), 7)


def declare(kind: Kind, name: str, *needs: Key, **body: object) -> Declared:
    """Return a declared resource."""
    return Declared(Key(kind, name), body, _FILE, frozenset(needs))


def plan(
    declared: list[Declared],
    found: dict[Key, dict[str, Any]] | None = None,
    *,
    owned: list[Key] | None = None,
    prune: bool = True,
    unloaded: tuple[str, ...] = (),
) -> Plan:
    """Return the plan for a server that has the resources `found`."""
    inventory = Inventory()
    inventory.add(
        Found(key, UUID(int=number), body)
        for number, (key, body) in enumerate((found or {}).items())
    )
    ledger = Ledger(secrets={key: [] for key in owned or []})
    broken = [
        Unloaded(name, Problem(_FILE, "it does not import", "correct it")) for name in unloaded
    ]
    return make_plan(declared, inventory, ledger, prune=prune, unloaded=broken)


def steps(result: Plan) -> list[str]:
    """Return the steps of a plan as text."""
    return [f"{change.action} {change.key}" for change in result.changes]


def test_a_dependency_is_created_first_and_deleted_last() -> None:
    block = declare(Kind.BLOCK, "webhook/hook")
    pool = declare(Kind.WORK_POOL, "etl")
    automation = declare(Kind.AUTOMATION, "tell", block.key, pool.key)
    assert steps(plan([automation, pool, block])) == [
        "create block webhook/hook",
        "create work pool etl",
        "create automation tell",
    ]
    everything: dict[Key, dict[str, Any]] = {each.key: {} for each in (block, pool, automation)}
    assert steps(plan([], everything, owned=list(everything))) == [
        "delete automation tell",
        "delete work pool etl",
        "delete block webhook/hook",
    ]


def test_fields_missing_from_the_file_are_not_compared() -> None:
    queue = declare(Kind.WORK_QUEUE, "etl/a", concurrency_limit=None)
    found = {queue.key: {"concurrency_limit": None, "paused": True}}
    assert steps(plan([queue], found, owned=[queue.key])) == []


def test_a_resource_missing_from_files_and_server_is_removed_from_the_ledger() -> None:
    key = Key(Kind.VARIABLE, "old")
    assert steps(plan([], owned=[key])) == ["forget variable old"]
    assert plan([], owned=[key], prune=False) == Plan([], [], [])


def test_without_pruning_the_plan_lists_what_prune_would_delete() -> None:
    key = Key(Kind.VARIABLE, "old")
    result = plan([], {key: {}}, owned=[key], prune=False)
    assert result == Plan([], [key], [])
    assert "deleted with --prune: variable old" in differences.summary(result)


def test_a_missing_dependency_is_refused_with_the_line_number() -> None:
    automation = declare(Kind.AUTOMATION, "tell", Key(Kind.BLOCK, "slack-webhook/ops"))
    with pytest.raises(ConfigurationError) as error:
        plan([automation])
    assert (
        "platform.yaml:7: automation tell needs the block slack-webhook/ops, which is neither "
        "declared nor on the server"
    ) in error.value.message


def test_a_dependency_that_this_plan_would_prune_is_refused() -> None:
    block = Key(Kind.BLOCK, "slack-webhook/ops")
    automation = declare(Kind.AUTOMATION, "tell", block)
    with pytest.raises(ConfigurationError, match="no longer declared and would be pruned"):
        plan([automation], {block: {}}, owned=[block])
    assert steps(plan([automation], {block: {}})) == ["create automation tell"]


def test_a_dependency_cycle_is_refused_and_shown() -> None:
    first, second = Key(Kind.AUTOMATION, "a"), Key(Kind.AUTOMATION, "b")
    cycle = [declare(Kind.AUTOMATION, "a", second), declare(Kind.AUTOMATION, "b", first)]
    with pytest.raises(ConfigurationError, match="automation a → automation b → automation a"):
        plan(cycle)


def test_a_difference_names_the_field_but_hides_secrets() -> None:
    body = {"url": SecretValue("new"), "to": ["a", "c"], "auth": {"user": "u", "key": "n"}}
    declared = declare(Kind.BLOCK, "x/y", **body)
    before = {"url": SecretValue("old"), "to": ["a", "b"], "auth": {"user": "u"}}
    change = Change(Action.UPDATE, declared.key, declared, Found(declared.key, UUID(int=1), before))
    assert list(differences.lines(change)) == [
        "[yellow]~[/] update block x/y",
        "    url: (secret) → (secret)",
        '    to.1: "b" → "c"',
        '    auth.key: (nothing) → "n"',
    ]


def test_a_deployment_whose_flow_cannot_be_loaded_is_kept_with_what_needs_it() -> None:
    kept, removed = (Key(Kind.DEPLOYMENT, f"sales/{name}") for name in ("daily", "old"))
    automation = declare(Kind.AUTOMATION, "tell", kept)
    found: dict[Key, dict[str, Any]] = {kept: {"version": "1"}, removed: {}}

    result = plan([automation], found, owned=[kept, removed], unloaded=("daily",))

    assert steps(result) == ["create automation tell", "delete deployment sales/old"]
    assert result.waiting == []


def test_an_automation_waits_for_a_deployment_that_was_never_created() -> None:
    deployment = Key(Kind.DEPLOYMENT, "sales/daily")
    grants = declare(Kind.VARIABLE, "grants", deployment)
    automation = declare(Kind.AUTOMATION, "start", deployment)
    above = declare(Kind.AUTOMATION, "pause", automation.key)
    declared = [above, automation, grants]

    result = plan(declared, owned=[automation.key], unloaded=("daily",))

    assert steps(result) == ["create variable grants"]
    assert result.waiting == [automation, above]
    with pytest.raises(ConfigurationError, match="needs the deployment sales/daily, which is"):
        plan(declared, unloaded=("weekly",))
