"""All rules, and the page that explains them."""

import re

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.lint import ignores
from prefect_platform_cli.lint.findings import Rule
from prefect_platform_cli.lint.rules import (
    caches,
    deployments,
    limits,
    logs,
    names,
    network,
    parameters,
    pods,
    scripts,
    secrets,
    waits,
)

PAGE = REPOSITORY / "docs" / "flows" / "rules.md"
CHECKS = (
    scripts.Scripts,
    network.Network,
    secrets.Secrets,
    logs.Logs,
    waits.Waits,
    pods.Pods,
    caches.Caches,
    limits.Limits,
    parameters.Parameters,
    names.Names,
)
"""The rules of Python files; each is constructed once and then checks module after module."""

_MODULES = (
    *(scripts, network, secrets, logs, waits, pods, caches, limits, names),
    *(parameters, deployments, ignores),
)
RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in sorted((each for m in _MODULES for each in m.RULES), key=lambda each: each.id)
}


def explanation(rule_id: str) -> str:
    """Return the section of the page on one rule; raises PlatformError when there is none."""
    rule = RULES.get(rule_id.upper())
    if rule is None:
        raise PlatformError(
            f"there is no rule {rule_id}: the rules are {', '.join(RULES)}",
            next_step="prefect-platform lint --explain PF002",
        )
    heading = re.escape(f"## {rule.id}: {rule.title}")
    found = re.search(rf"^{heading}\n.*?(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise PlatformError(
            f"{PAGE} has no section on {rule.id}", next_step="git checkout docs/flows/rules.md"
        )
    return found[0].strip()
