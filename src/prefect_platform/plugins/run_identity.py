"""A Prefect plugin: the API accepts the token of a pod, for what the pod needs.

Prefect's API knows one auth string, which opens everything. With this plugin a pod needs none: it
sends the token that Kubernetes made for it. RUN_IDENTITY_AUDIENCE names this server in tokens; when
it is empty, nothing changes. WORKER_PASSWORDS is a folder with the passwords of workers outside the
cluster, a file for each work pool.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

import os
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prefect.plugins import HookContext, register_hook
from prefect.server.api import server
from prefect.server.database import provide_database_interface
from prefect.settings.context import get_current_settings

from prefect_platform import kubernetes_client
from prefect_platform.errors import PlatformError
from prefect_platform.run_identity.authorization import Authorization
from prefect_platform.run_identity.middleware import RunIdentityMiddleware
from prefect_platform.run_identity.token_reviews import TokenReviews
from prefect_platform.run_identity.worker_credentials import WorkerCredentials

_VARIABLE = "RUN_IDENTITY_AUDIENCE"
_PASSWORDS = "WORKER_PASSWORDS"

_create_api_app = server.create_api_app


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Put the middleware around every API that this process creates."""
    if os.environ.get(_VARIABLE):
        server.create_api_app = create_api_app  # type: ignore[assignment]


def create_api_app(**options: Any) -> FastAPI:  # noqa: ANN401 - as Prefect's
    """Return Prefect's API with the middleware.

    Raises PlatformError without an auth string, and when it ends with a line break: programs would
    send it, but people could not log in.
    """
    setting = get_current_settings().server.api.auth_string
    if setting is None:
        raise PlatformError(
            f"{_VARIABLE} is set, but the server has no auth string, so that everything is allowed",
            next_step="set PREFECT_SERVER_API_AUTH_STRING",
        )
    auth_string = setting.get_secret_value()
    if auth_string.endswith("\n"):
        raise PlatformError(
            "the auth string ends with a line break, so people could not log in with it",
            next_step="create the Secret prefect-auth, or the one that auth.secret names, "
            "again without the line break: use printf %s, because echo adds one",
        )
    app = _create_api_app(**options)
    # Prefect caches its applications, so this one may have the middleware already.
    present: list[object] = [each.cls for each in app.user_middleware]
    if RunIdentityMiddleware not in present:
        app.add_middleware(
            RunIdentityMiddleware,
            authorization=_authorization,
            auth_string=auth_string,
        )
    return app


@cache
def _authorization() -> Authorization:
    reviews = partial(TokenReviews, os.environ[_VARIABLE], kubernetes_client.connect)
    folder = os.environ.get(_PASSWORDS)
    workers = WorkerCredentials(Path(folder) if folder else None)
    return Authorization(provide_database_interface(), reviews, workers)
