"""Who sends a request, and why it is refused."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar
from uuid import UUID

from prefect_platform.visible_text import visible

_LONGEST_LINE = 500

OF_A_RUN = "/flow-runs/"
"""Stands between the name of the server and the id of the run in the audience of a token."""


class Part(StrEnum):
    """The parts of the platform that use the API. Each has a table of what it may do."""

    RUN = "flow run"
    WORKER = "worker"
    REAPER = "reaper"
    CONFIGURATION = "configuration"
    RELEASE_TEST = "release-test"


@dataclass(frozen=True)
class Identity:
    """What a token was issued for, and when it expires.

    A run has its id as `flow_run` and the name of its work pool, a worker only the latter.
    """

    part: Part
    expires: datetime
    pool: str = ""
    flow_run: UUID | None = None

    @property
    def who(self) -> str:
        """Return the part as lines of the log name it."""
        if self.flow_run is not None:
            return f"flow run {self.flow_run}"
        return f"the {self.part}" + (f" of the work pool {self.pool}" if self.pool else "")


class Refused(Exception):  # noqa: N818 - it reports an outcome
    """A request is not allowed. The message says why."""

    status: ClassVar[HTTPStatus]

    @property
    def line(self) -> str:
        """Return the message as one line of the log, which the run's texts cannot break."""
        return one_line(str(self))


class Unauthorized(Refused):
    """The token does not prove who sends the request. Only the log says why."""

    status = HTTPStatus.UNAUTHORIZED


class Forbidden(Refused):
    """The sender may not do this."""

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
