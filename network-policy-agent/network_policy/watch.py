"""Follow objects of the Kubernetes API from inside a pod, with its ServiceAccount."""

import http.client
import json
import os
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The API sends a bookmark every minute, so a longer silence means that the connection is dead.
_SILENCE = 90  # seconds
_WATCHED_FOR = 300  # seconds, after which all objects are listed again
_Object = Mapping[str, Any]


@dataclass(frozen=True)
class Listed:
    """All objects that exist."""

    items: Sequence[_Object]


@dataclass(frozen=True)
class Changed:
    """One object that is new or has changed."""

    item: _Object


@dataclass(frozen=True)
class Deleted:
    """One object that was deleted."""

    item: _Object


Change = Listed | Changed | Deleted


def follow(path: str) -> Iterator[Change]:
    """Yield the objects at the API's `path`, such as /api/v1/pods, and then every change, forever.

    While the API does not answer, nothing is yielded, and standard error says why.
    """
    while True:
        try:
            yield from _list_and_watch(path)
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            print(f"{path} cannot be followed, next try in 1 s: {error}", file=sys.stderr)
            time.sleep(1)


def _list_and_watch(path: str) -> Iterator[Change]:
    with _get(path) as answer:
        listed = json.load(answer)
    yield Listed(listed["items"])
    version = listed["metadata"]["resourceVersion"]
    watch = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={_WATCHED_FOR}"
    with _get(f"{path}?{watch}&resourceVersion={version}") as answer:
        for line in answer:
            event = json.loads(line)
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    yield Changed(event["object"])
                case "DELETED":
                    yield Deleted(event["object"])
                case "ERROR":  # the version is too old: list again
                    return


def _get(path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"],
        int(os.environ["KUBERNETES_SERVICE_PORT"]),
        context=ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")),
        timeout=_SILENCE,
    )
    token = (_ACCOUNT / "token").read_text()  # read every time, because it is renewed
    # Each connection serves one request, and is closed after the response.
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    if answer.status != http.HTTPStatus.OK:
        raise http.client.HTTPException(f"status {answer.status}: {answer.read(500)!r}")
    return answer
