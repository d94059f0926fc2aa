"""A mutation is noticed by a test that asserts what the module does, and by no other."""

import ast
from pathlib import Path

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.mutations import mutations, naming, survives

_MODULE = Path("src/thing/doors.py")
_SOURCE = """
def say(room: str) -> str:
    if room == "Küche":  # two bytes for one letter
        return "kitchen"
    return "hall"
"""
_ASSERTS = """
from thing import doors

def test_the_room_is_said():
    assert doors.say("Küche") == "kitchen"
"""
_CALLS = """
from thing.doors import say

def test_something_is_said():
    assert say("Küche")
"""


def test_every_module_can_be_changed_and_still_be_read() -> None:
    for file in (REPOSITORY / "src").rglob("*.py"):
        source = file.read_text()
        found = mutations(source)
        for mutation in found:
            assert mutation.source != source
            assert ast.parse(mutation.source), (file, mutation.line)
        assert found == mutations(source)


@pytest.mark.parametrize(
    ("test", "noticed"), [(_ASSERTS, True), (_CALLS, False)], ids=["asserts", "calls"]
)
def test_a_change_is_noticed_by_a_test_that_would_fail(
    tmp_path: Path, test: str, *, noticed: bool
) -> None:
    module, file = tmp_path / _MODULE, tmp_path / "tests/unit/test_doors.py"
    for each in (module, file):
        each.parent.mkdir(parents=True)
    module.write_text(_SOURCE)
    file.write_text(test)
    file.with_name("test_windows.py").write_text("def test_nothing_of_it(): assert False")
    (negated,) = mutations(_SOURCE)

    tests = naming(tmp_path, _MODULE)

    assert tests == [file]
    assert survives(tmp_path, _MODULE, negated, tests) is not noticed
    assert (negated.line, negated.after) == (3, '(not (room == "Küche"))')
    assert module.read_text() == _SOURCE
