"""A plugin of Prefect: the API takes the auth string of before, too, while runs still have it.

A job pod has the auth string of its start. With the new one alone in the API it would be refused,
and its run would crash. Prefect knows one auth string, and compares it in two modules with `hmac`.

Prefect loads it as it is imported, in each process that has PREFECT_PLUGINS_ENABLED. Reads
PREVIOUS_API_AUTH_STRING, "user:password"; an empty one opens nothing.
"""

import hmac
import os
from types import SimpleNamespace

from prefect.plugins import HookContext, register_hook
from prefect.server.api import server
from prefect.server.utilities import subscriptions

_VARIABLE = "PREVIOUS_API_AUTH_STRING"


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make requests and web sockets of this process accept either auth string."""
    previous = os.environ.get(_VARIABLE)
    if not previous:
        return

    def is_either(given: str, current: str) -> bool:
        return hmac.compare_digest(given, current) or hmac.compare_digest(given, previous)

    for module in (server, subscriptions):
        module.hmac = SimpleNamespace(compare_digest=is_either)  # type: ignore[attr-defined]
