"""The hosts that notifications and webhooks may be sent to.

Whoever may write blocks and automations decides where the server sends requests to.
NOTIFICATION_HOSTS lists the allowed hosts, separated by commas. If it is empty, none is allowed; if
it is not set, all are.

The blocks of Prefect use several clients, some of which follow redirects. What these have in common
is Python's module socket. In a confined thread it looks up declared hosts only, and connects only
to addresses that such a look-up has returned.
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

_VARIABLE = "NOTIFICATION_HOSTS"

_look_up = socket.getaddrinfo
_start = threading.Thread.start


class HostRefused(Exception):  # noqa: N818 - it reports an outcome
    """A block connected to a host that is not declared, whatever its client made of the refusal."""


# Addresses of declared hosts, in this process: a thread that one attempt has started may look names
# up for a later one.
_resolved: set[object] = set()


@dataclass
class _Attempt:
    hosts: frozenset[str]
    refusal: str = ""

    def check(self, host: object) -> None:
        """Fail as when the network denies a connection, which clients expect."""
        if host not in _resolved and _normal(host) not in self.hosts:
            self.refusal = self.refusal or _not_declared(_normal(host))
            raise PermissionError(self.refusal)


_attempt: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


def install() -> None:
    """Make `confined` effective in this process, if hosts are declared."""
    if _declared() is not None:
        socket.getaddrinfo = _checked_look_up
        threading.Thread.start = _start_in_context  # type: ignore[method-assign, assignment]
        sys.addaudithook(_audit)


def check(url: str) -> None:
    """Raise HostRefused if nothing may be sent to the host of `url`, as httpx reads it."""
    if (hosts := _declared()) is None:
        return
    try:
        host = _normal(httpx.URL(url).raw_host)
    except httpx.InvalidURL:
        raise HostRefused("the URL of the block is not valid") from None
    if host not in hosts:
        raise HostRefused(_not_declared(host))


@contextmanager
def confined() -> Iterator[None]:
    """Deny this thread, and those that it starts, connections to other hosts.

    Raises HostRefused at the end if there was one.
    """
    if (hosts := _declared()) is None:
        yield
        return
    attempt = _Attempt(hosts)
    token = _attempt.set(attempt)
    try:
        yield
    finally:
        _attempt.reset(token)
        if attempt.refusal:
            raise HostRefused(attempt.refusal)


def _checked_look_up(host: Any, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401
    if (attempt := _attempt.get()) is None:
        return _look_up(host, *arguments, **options)
    attempt.check(host)
    found = _look_up(host, *arguments, **options)
    _resolved.update(address[0] for *_, address in found)
    return found


def _start_in_context(thread: threading.Thread) -> None:
    if _attempt.get() is not None:
        thread.run = partial(copy_context().run, thread.run)  # type: ignore[method-assign]
    _start(thread)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto"} and (attempt := _attempt.get()) is not None:
        host, *_ = arguments[1]
        attempt.check(host)


def _declared() -> frozenset[str] | None:
    if (listed := os.environ.get(_VARIABLE)) is None:
        return None
    return frozenset(_normal(each) for each in listed.split(",") if each)


def _not_declared(host: str) -> str:
    return f"the host {host} is not in notifications.hosts of prefect-server"


def _normal(host: object) -> str:
    """Return a host name as it is compared: in lower case, without the dot of an absolute name."""
    text = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    return text.lower().removesuffix(".")
