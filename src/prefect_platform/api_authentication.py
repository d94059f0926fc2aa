"""The credential that a process of the platform shows to Prefect's API."""

import os
from collections.abc import Generator
from pathlib import Path

import httpx

_FILE = "POD_TOKEN_FILE"


class PodToken(httpx.Auth):
    """The token of a pod, read from its file for each request, because the kubelet renews it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def value(self) -> str:
        """Return the token as it is now."""
        return self._path.read_text().strip()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the token with the request."""
        request.headers["Authorization"] = f"Bearer {self.value()}"
        yield request


def pod_token() -> PodToken | None:
    """Return the token in the file that POD_TOKEN_FILE names, None if it names none."""
    path = os.environ.get(_FILE)
    return PodToken(Path(path)) if path else None


def authentication() -> httpx.Auth | None:
    """Return the token of the pod or else the auth string, None if the process has neither."""
    if token := pod_token():
        return token
    user, colon, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return httpx.BasicAuth(user, password) if colon else None
