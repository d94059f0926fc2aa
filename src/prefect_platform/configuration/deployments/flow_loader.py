"""Load flows in other processes, so that a flow can neither end this one nor read its secrets.

The processes have the user and the files of this one. They keep secrets away from the modules that
flows import, which may log or send their environment, but they do not confine hostile code.
"""

import json
import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from prefect_platform.configuration.deployments.entrypoints import (
    EntrypointError,
    FlowFacts,
    named,
)

_LIMIT = 60.0
_LIMIT_OF_ALL = 300.0  # part of activeDeadlineSeconds of the configuration's Jobs
_SECRET_NAME = re.compile("AUTH|CREDENTIAL|KEY|PASS|SECRET|TOKEN|^PREFECT_(?!HOME$)", re.IGNORECASE)
_SECRET_VALUE = re.compile("://[^/]*@")  # a URL with a password


class FlowLoader:
    """Loads the flows of a directory, each entrypoint once.

    A flow has `limit` seconds to import, and all flows together have `limit_of_all` seconds, so
    that the resources that need no flow are still applied when a library makes every flow hang.
    With `complete`, everything that a flow imports has to be installed here.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: float = _LIMIT,
        limit_of_all: float = _LIMIT_OF_ALL,
        complete: bool = False,
    ) -> None:
        self._directory = directory
        self._complete = complete
        self._limit = limit
        self._limit_of_all = limit_of_all
        self._end = time.monotonic() + limit_of_all
        self._answers: dict[str, dict[str, Any]] = {}

    def load(self, entrypoint: str) -> FlowFacts:
        """Return the facts about the flow at `entrypoint`; raises EntrypointError."""
        if entrypoint not in self._answers:
            self._answers[entrypoint] = self._ask(entrypoint)
        answer = self._answers[entrypoint]
        if "cause" in answer:
            raise EntrypointError(**answer)
        return FlowFacts(**answer)

    def _ask(self, entrypoint: str) -> dict[str, Any]:
        left = self._end - time.monotonic()
        if left <= 0:
            late = f"was not loaded, because others took all of the {self._limit_of_all:.0f} s"
            return {"cause": f"{named(entrypoint)} {late}"}
        request = {
            "directory": str(self._directory),
            "entrypoint": entrypoint,
            "limit": min(self._limit, left),
            "complete": self._complete,
        }
        if line := _exchange(json.dumps(request)):
            answer: dict[str, Any] = json.loads(line)
            return answer
        _fork_server.cache_clear()
        return {"cause": f"{named(entrypoint)} ended the process that loads all flows"}


def _exchange(request: str) -> str:
    """Return the fork server's answer, an empty text if the server has ended."""
    server = _fork_server()
    assert server.stdin  # noqa: S101 - both are pipes
    assert server.stdout  # noqa: S101
    try:
        server.stdin.write(f"{request}\n")
        server.stdin.flush()
        return server.stdout.readline()
    except BrokenPipeError:
        return ""


@cache
def _fork_server() -> subprocess.Popen[str]:
    """Start the fork server, which ends with this process.

    Its directory has no settings of Prefect, and it reads no profile: either may hold secrets.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "prefect_platform.configuration.deployments.fork_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={
            **{name: value for name, value in os.environ.items() if not _secret(name, value)},
            "PREFECT_PROFILES_PATH": os.devnull,
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        },
        start_new_session=True,  # Ctrl-C is for this process
    )


def _secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
