"""A Prefect plugin: during a rotation, the API also accepts the previous auth string.

A program outside the cluster, and without run identity a worker or a job pod, keeps the auth string
that it was started with. If the API accepted only the new one, it would refuse them. Prefect
supports one auth string. It compares it in two modules with `hmac`, which the plugin replaces.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED. The
previous auth string is read from PREVIOUS_API_AUTH_STRING ("user:password"); when that is empty,
nothing changes.
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
    """Make this process accept either auth string for requests and web sockets."""
    previous = os.environ.get(_VARIABLE)
    if not previous:
        return

    def is_either(given: str, current: str) -> bool:
        return hmac.compare_digest(given, current) or hmac.compare_digest(given, previous)

    for module in (server, subscriptions):
        module.hmac = SimpleNamespace(compare_digest=is_either)  # type: ignore[attr-defined]
