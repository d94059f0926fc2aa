"""Check whether this machine can reach the public image registry."""

import httpx

DOCKER_HUB = "https://registry-1.docker.io/v2/"
# A registry answers its root without credentials, or asks for them (OCI distribution spec 1.1).
_ANSWERS = (httpx.codes.OK, httpx.codes.UNAUTHORIZED)


def why_unreachable(registry: str) -> str | None:
    """Return why `registry` (the address of its root) cannot be used; None when it can."""
    try:
        status = httpx.get(registry, timeout=5).status_code
    except httpx.HTTPError as error:
        return f"{registry} is not reachable: {error}"
    return None if status in _ANSWERS else f"{registry} answers with status {status}"
