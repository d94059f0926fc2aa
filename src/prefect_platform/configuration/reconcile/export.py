"""A running server as a platform.yaml: what `apply` would need to make another one like it."""

import io
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from prefect_platform.configuration.concurrency_limits import ConcurrencyLimit
from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.resource import Found, Inventory, Kind
from prefect_platform.configuration.core.secret_values import replaced, secret_steps
from prefect_platform.configuration.reconcile.ledger import Ledger, Secrets
from prefect_platform.configuration.variables import Variable
from prefect_platform.configuration.work_pools import WorkPool, WorkQueue

UNKNOWN = "unknown-secret"  # a Secret that nobody has: apply refuses it until it is replaced


def export(inventory: Inventory, ledger: Ledger, context: Context) -> str:
    """Return the file. Defaults are left out, names stand for ids, references for secrets.

    A secret that no file has declared becomes a reference to the Secret `unknown-secret`,
    which `apply` refuses until somebody names the real one. Deployments are not in it: prefect.yaml
    has them.
    """
    sections = {
        "variables": {
            each.key.name: _without_defaults(Variable, each.body)
            for each in _of(inventory, Kind.VARIABLE)
        },
        "concurrency_limits": {
            each.key.name: _without_defaults(ConcurrencyLimit, each.body, "active")
            for each in _of(inventory, Kind.CONCURRENCY_LIMIT)
        },
        "tag_concurrency_limits": {
            each.key.name: each.body["limit"] for each in _of(inventory, Kind.TAG_CONCURRENCY_LIMIT)
        },
        "blocks": {
            each.key.name: _block(each, ledger.secrets.get(each.key, []))
            for each in _of(inventory, Kind.BLOCK)
        },
        "work_pools": {
            each.key.name: _work_pool(each, inventory, context)
            for each in _of(inventory, Kind.WORK_POOL)
        },
        "automations": {each.key.name: dict(each.body) for each in _of(inventory, Kind.AUTOMATION)},
        # The pack's automations are among them.
        "alerts": {"enabled": False},
    }
    written = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.dump({name: section for name, section in sections.items() if section}, written)
    return written.getvalue()


def _of(inventory: Inventory, kind: Kind) -> list[Found]:
    return [each for each in inventory.all() if each.key.kind is kind]


def _without_defaults(
    model: type[BaseModel], body: Mapping[str, Any], *switches: str
) -> dict[str, Any]:
    """Return what differs from the model's defaults, and of `switches` what is not as usual."""
    usual = {"active": True, "paused": False}
    said = {name: value for name, value in body.items() if name in model.model_fields}
    for name in switches:
        if said[name] == usual[name]:
            del said[name]
    return model.model_validate(said).model_dump(mode="json", exclude_defaults=True)


def _block(block: Found, known: Secrets) -> Any:  # noqa: ANN401
    """Return the fields of a block, with a reference in the place of each secret."""
    written: Any = block.body
    for secret in known:
        written = replaced(written, tuple(secret["at"]), partial(_instead, secret["from"]))
    for steps in sorted(secret_steps(written), key=str):
        unknown = {"secret": {"name": UNKNOWN, "key": str(steps[-1])}}
        written = replaced(written, steps, partial(_instead, unknown))
    return written


def _instead(reference: object, _value: object) -> object:
    return reference


def _work_pool(pool: Found, inventory: Inventory, context: Context) -> dict[str, Any]:
    written = _without_defaults(WorkPool, pool.body, "paused")
    if context.base_job_template(pool.key.name) == pool.body["base_job_template"]:
        written.pop("base_job_template", None)
    queues = {
        each.key.name.partition("/")[2]: _without_defaults(WorkQueue, each.body, "paused")
        for each in _of(inventory, Kind.WORK_QUEUE)
        if each.key.name.startswith(f"{pool.key.name}/")
    }
    if queues.keys() != {"default"} or queues["default"].keys() - {"priority"}:
        written["queues"] = queues
    return written
