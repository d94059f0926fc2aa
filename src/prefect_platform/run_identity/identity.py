"""The identity of a flow run, and why a request is refused."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import ClassVar
from uuid import UUID

from prefect_platform.visible_text import visible

_LONGEST_LINE = 500

OF_A_RUN = "/flow-runs/"
"""Stands between the name of the server and the id of the run in the audience of a token."""


@dataclass(frozen=True)
class RunIdentity:
    """The flow run that a token was issued for, with its work pool, and when the token expires."""

    flow_run: UUID
    pool: str
    expires: datetime


class Refused(Exception):  # noqa: N818 - it reports an outcome
    """A request is not allowed. The message says why."""

    status: ClassVar[HTTPStatus]

    @property
    def line(self) -> str:
        """Return the message as one line of the log, which the run's texts cannot break."""
        return one_line(str(self))


class Unauthorized(Refused):
    """The token does not prove which run sends the request. Only the log says why."""

    status = HTTPStatus.UNAUTHORIZED


class Forbidden(Refused):
    """The run may not do this."""

    status = HTTPStatus.FORBIDDEN


class NotFound(Refused):
    """The object does not exist, so it is unknown whose it is."""

    status = HTTPStatus.NOT_FOUND


class Malformed(Refused):
    """The request has not the form that says whose objects it names."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class Unavailable(Refused):
    """Kubernetes or the database does not answer at the moment; the client tries again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


def one_line(text: str) -> str:
    """Return a text of a run as a part of one line of the log."""
    return " ".join(visible(text[:_LONGEST_LINE]).split())
