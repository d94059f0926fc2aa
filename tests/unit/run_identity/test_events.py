"""An event that precedes its run reaches the owner of the run alone."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from prefect_platform.run_identity.events import is_own_event
from prefect_platform.run_identity.identity import NotFound
from prefect_platform.run_identity.owners import PlatformOwner


@dataclass(frozen=True)
class OwnerOfNewRun(PlatformOwner):
    """Answers questions about a run with `answers`, where None is that it is not stored yet."""

    answers: Iterator[bool | None] | None = None

    async def owns(self, flow_run: UUID | None, *, in_pod: bool = False) -> bool:  # noqa: ARG002
        answer = next(self.answers or iter(()), None)
        if answer is None:
            raise NotFound("the run is not stored")
        return answer


@pytest.mark.parametrize(
    ("age", "answers", "expected"),
    [
        (0, [True], True),
        (0, [None, None, True], True),
        (0, [None, False], False),
        (0, [], False),
        # The run of an old event was deleted, and nothing is waited for.
        (60, [None, True], False),
    ],
)
def test_the_storage_of_a_new_run_is_waited_for(
    age: int, answers: list[bool | None], expected: object
) -> None:
    event = {
        "occurred": (datetime.now(UTC) - timedelta(seconds=age)).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"},
    }

    own = asyncio.run(is_own_event(event, OwnerOfNewRun(answers=iter(answers))))

    assert own is expected
