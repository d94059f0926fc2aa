"""Only a test that asserts what the module does detects a mutation of it."""

import ast
from pathlib import Path

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.mutations import find_tests, mutations, survives

_MODULE = Path("src/thing/doors.py")
_SOURCE = """
def say(room: str) -> str:
    if room == "Küche":  # two bytes for one letter
        return "kitchen"
    return "hall"
"""
_ASSERTS = """
from thing import doors

def test_the_room_is_translated():
    assert doors.say("Küche") == "kitchen"
"""
_CALLS = """
from thing.doors import say

def test_a_room_has_some_translation():
    assert say("Küche")
"""


def test_mutations_of_every_module_are_valid_python() -> None:
    for file in (REPOSITORY / "src").rglob("*.py"):
        source = file.read_text()
        found = mutations(source)
        for mutation in found:
            assert mutation.source != source
            assert ast.parse(mutation.source), (file, mutation.line)
        assert found == mutations(source)


@pytest.mark.parametrize(
    ("test", "detected"), [(_ASSERTS, True), (_CALLS, False)], ids=["asserts", "calls"]
)
def test_only_a_test_that_asserts_the_result_detects_a_mutation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test: str, *, detected: bool
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they are not needed, but slow
    module, file = tmp_path / _MODULE, tmp_path / "tests/unit/test_doors.py"
    for each in (module, file):
        each.parent.mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    module.write_text(_SOURCE)
    file.write_text(test)
    file.with_name("test_windows.py").write_text("def test_of_another_module(): assert False")
    (negated,) = mutations(_SOURCE)

    tests = find_tests(tmp_path, _MODULE)

    assert tests == [file]
    assert survives(tmp_path, _MODULE, negated, tests) is not detected
    assert (negated.line, negated.after) == (3, '(not (room == "Küche"))')
    assert module.read_text() == _SOURCE


def test_the_tests_of_a_plugin_are_those_that_load_it_by_name_or_by_their_conftest(
    tmp_path: Path,
) -> None:
    files = {
        "unit/test_other.py": "import plugins",
        "unit/test_policy.py": 'start(plugins="open-doors")',
        "integration/server/conftest.py": 'PLUGINS = "windows,open-doors"',
        "integration/server/test_house.py": "def test_house(server): ...",
    }
    for name, text in files.items():
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).write_text(text)

    found = find_tests(tmp_path, Path("src/prefect_platform/plugins/open_doors.py"))

    assert [file.name for file in found] == ["test_policy.py", "test_house.py"]


def test_a_module_that_no_test_names_is_tested_through_its_package(tmp_path: Path) -> None:
    for name in ("house/doors/test_open.py", "house/test_room.py", "garden/test_tree.py"):
        (tmp_path / "tests/unit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests/unit" / name).write_text("from thing.house import build")

    of_doors = find_tests(tmp_path, Path("src/thing/house/doors/hinges.py"))
    of_house = find_tests(tmp_path, Path("src/thing/house/windows/panes.py"))

    assert [file.name for file in of_doors] == ["test_open.py"]
    assert [file.name for file in of_house] == ["test_open.py", "test_room.py"]
