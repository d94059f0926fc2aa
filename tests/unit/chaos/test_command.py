"""`make chaos` names the faults, and touches nothing when it cannot inject what it is given."""

import pytest

from prefect_platform.errors import PlatformError
from tests.chaos.__main__ import main
from tests.chaos.faults import FAULTS, chosen


def test_without_a_fault_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("no-cluster", "") == 0
    assert capsys.readouterr().out.split("\n")[:-1] == list(FAULTS)


def test_an_unknown_fault_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(PlatformError, match="api-kiled is not a fault") as refused:
        main("no-cluster", "worker-killed+api-kiled")

    assert refused.value.next_step == f"choose from {', '.join(FAULTS)}"


def test_faults_of_different_parts_can_be_combined() -> None:
    faults = chosen("api-killed+database-killed+image-missing")

    assert [each.name for each in faults] == ["api-killed", "database-killed", "image-missing"]


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("api-killed+api-away", "both need deployment/prefect-server"),
        ("api-killed+api-killed", "both need deployment/prefect-server"),
        ("connections-exhausted+database-killed", "both need statefulset/prefect-server-database"),
        ("redis-out-of-memory+redis-killed", "both need statefulset/prefect-server-redis"),
        ("two-applies+api-away", "both need deployment/prefect-server"),
        ("image-missing+reaper-killed", "both need cronjob/prefect-worker-reaper"),
        ("none+api-killed", "none means that there is no fault"),
    ],
)
def test_faults_that_contradict_each_other_are_refused_with_the_reason(
    named: str, why: str
) -> None:
    one, other = named.split("+")

    with pytest.raises(
        PlatformError, match=f"{one} and {other} cannot be injected together: {why}"
    ):
        chosen(named)
