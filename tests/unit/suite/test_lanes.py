"""Every test runs in one lane, and the programs that tests call are built beforehand."""

import re

from prefect_platform_cli.cluster.node_image.node_image import _programs as programs_of_nodes
from prefect_platform_cli.host.paths import REPOSITORY
from tests.lanes import STAGES
from tests.support.programs import ALL, FAST, WHOLE

_TESTS = REPOSITORY / "tests"


def test_every_test_is_in_exactly_one_lane() -> None:
    folders = [REPOSITORY / folder for stage in STAGES for lane in stage for folder in lane.folders]

    for file in _TESTS.rglob("test_*.py"):
        lanes = [folder for folder in folders if folder in file.parents]
        assert len(lanes) == 1, f"{file.relative_to(REPOSITORY)} is in {lanes}"


def test_programs_that_tests_call_are_built_beforehand() -> None:
    called = _called("*")

    assert called >= {"helm", "tofu"}
    assert called <= {*ALL, *WHOLE, *programs_of_nodes()}
    assert _called("unit") | _called("render") <= set(FAST)


def _called(folder: str) -> set[str]:
    calls = re.compile(r"\btool\(\"([a-z-]+)\"\)")
    return {
        program
        for file in _TESTS.glob(f"{folder}/**/*.py")
        if file.name != "test_toolchain.py"  # it makes its own programs
        for program in calls.findall(file.read_text())
    }
