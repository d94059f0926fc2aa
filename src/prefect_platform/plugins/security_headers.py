"""A Prefect plugin: every response tells the browser what the user interface may load.

Prefect sends no such headers. Both of its user interfaces keep the auth string in the browser's
storage, where every script of the page can read it, and the newer one calls an analytics service
even if PREFECT_SERVER_ANALYTICS_ENABLED is false. With this plugin the browser runs the server's
own scripts only, connects to no other host, and shows the pages in no other site's frame.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED. It takes
effect in the API's process. Images may also come from the origins in UI_IMAGE_ORIGINS, which are
separated by spaces.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from typing import Any

from fastapi import FastAPI
from prefect.plugins import HookContext, register_hook
from prefect.server.api import server

_VARIABLE = "UI_IMAGE_ORIGINS"
_POLICY = {
    "default-src": "'self'",
    # PixiJS, which draws the graph of a flow run, compiles functions and does not start without.
    "script-src": "'self' 'unsafe-eval'",
    # The graph starts its workers from blobs.
    "worker-src": "'self' blob:",
    # Both user interfaces create <style> elements and style attributes.
    "style-src": "'self' 'unsafe-inline'",
    "font-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
_IMAGES = ("'self'", "data:", "blob:")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class SecurityHeaders:
    """ASGI middleware that adds headers to HTTP responses, and passes everything else on."""

    def __init__(self, app: _App, headers: list[tuple[bytes, bytes]]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Handle one connection; each part of a response's body is sent on as it comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make each server application of this process send the headers."""
    create = server.create_app
    headers = security_headers(os.environ.get(_VARIABLE, ""))

    @wraps(create)
    def create_app(*args: Any, **options: Any) -> FastAPI:  # noqa: ANN401 - as Prefect's
        app = create(*args, **options)
        # Prefect caches its applications, so this one may have the middleware already.
        present: list[object] = [each.cls for each in app.user_middleware]
        if SecurityHeaders not in present:
            app.add_middleware(SecurityHeaders, headers=headers)
        return app

    server.create_app = create_app


def security_headers(image_origins: str) -> list[tuple[bytes, bytes]]:
    """Return the headers; `image_origins` are separated by spaces."""
    policy = _POLICY | {"img-src": " ".join([*_IMAGES, *image_origins.split()])}
    directives = "; ".join(f"{name} {sources}" for name, sources in policy.items())
    return [
        (b"content-security-policy", directives.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
    ]
