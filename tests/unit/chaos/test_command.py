"""`make chaos` names the faults, and touches nothing when it is given another name."""

import pytest

from tests.chaos.__main__ import main
from tests.chaos.faults import FAULTS


def test_without_a_fault_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("no-cluster", "") == 0
    assert capsys.readouterr().out.split("\n")[:-1] == list(FAULTS)


def test_an_unknown_fault_is_refused_with_the_names_of_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("no-cluster", "api-kiled") == 2
    assert capsys.readouterr().err.split("\n")[1:-1] == list(FAULTS)
