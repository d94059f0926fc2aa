"""The facts about flows that an image records replace loading them, as long as they are true."""

import json
from pathlib import Path

import pytest

from prefect_platform.configuration.core.source import read
from prefect_platform.configuration.deployments.entrypoints import FlowFacts
from prefect_platform.configuration.deployments.flow_image import problems
from prefect_platform.configuration.deployments.flow_loader import FlowLoader
from prefect_platform.configuration.deployments.recorded_facts import RecordedFacts, record

_FLOW = "from prefect import flow\n@flow\ndef sales(day: int = 1): ...\n"
_ENTRYPOINT = "flows/etl.py:sales"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "etl.py").write_text(_FLOW)
    return tmp_path


def write(directory: Path, *entrypoints: str) -> Path:
    """Record the facts as the build of the image does."""
    file = directory / "flow-facts.json"
    file.write_text(record(directory, entrypoints, FlowLoader(directory).load))
    return file


def loaded_from(file: Path, entrypoint: str = _ENTRYPOINT) -> tuple[FlowFacts, list[str]]:
    """Return the facts, and the entrypoints that had to be loaded for them."""
    asked = []

    def load(entrypoint: str) -> FlowFacts:
        asked.append(entrypoint)
        return FlowLoader(file.parent).load(entrypoint)

    return RecordedFacts(file, load).load(entrypoint), asked


def test_recorded_facts_are_those_of_the_flow_which_is_not_loaded(directory: Path) -> None:
    file = write(directory, _ENTRYPOINT)

    assert loaded_from(file) == (FlowLoader(directory).load(_ENTRYPOINT), [])


def test_recording_twice_gives_the_same_bytes_whatever_byte_code_there_is(directory: Path) -> None:
    first = write(directory, _ENTRYPOINT).read_bytes()
    (directory / "flows" / "__pycache__").mkdir(exist_ok=True)
    (directory / "flows" / "__pycache__" / "etl.pyc").write_text("byte code")

    assert write(directory, _ENTRYPOINT).read_bytes() == first


def test_facts_about_other_files_are_not_used_which_is_said(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(directory, _ENTRYPOINT)
    (directory / "flows" / "shared.json").write_text("{}")

    assert loaded_from(file)[1] == [_ENTRYPOINT]
    said = f"Loading flows/etl.py: {file} was recorded for other files in flows/\n"
    assert capsys.readouterr().err == said


def test_an_image_without_facts_loads_its_flows_and_says_so(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = directory / "flow-facts.json"

    assert loaded_from(file)[1] == [_ENTRYPOINT]
    assert capsys.readouterr().err == f"Loading flows/etl.py: there is no {file}\n"


@pytest.mark.parametrize("entrypoint", ["other.py:sales", "flows/../other.py:sales", "other.sales"])
def test_a_flow_outside_of_the_folder_is_not_recorded(
    directory: Path, entrypoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "other.py").write_text(_FLOW)
    file = write(directory, entrypoint)

    assert loaded_from(file, entrypoint)[1] == [entrypoint]
    assert "flow-facts.json does not describe it" in capsys.readouterr().err


def found(directory: Path, flow: str, **deployment: object) -> list[str]:
    """Return the problems that the build of an image finds."""
    entry = {"name": "daily", "entrypoint": _ENTRYPOINT, "work_pool": {"name": "jobs"}}
    file = directory / "prefect.yaml"
    file.write_text(json.dumps({"pull": [], "deployments": [{**entry, **deployment}]}, indent=1))
    (directory / "flows" / "etl.py").write_text(flow)
    if "wait()" not in flow:  # it would take a minute
        write(directory, _ENTRYPOINT)
    return list(problems(read(file), limit=2))


@pytest.mark.parametrize(
    ("flow", "deployment", "cause"),
    [
        (
            f"{_FLOW}import not_installed",
            {},
            "cannot be loaded: ModuleNotFoundError: No module named",
        ),
        (
            f"{_FLOW}import threading; threading.Event().wait()",
            {},
            "flows/etl.py did not import within 2 s",
        ),
        (_FLOW, {"parameters": {"dya": 2}}, "the flow sales has no parameter dya; use one of: day"),
        (_FLOW, {"parameters": {"day": "x"}}, "day: 'x' is not of type 'integer'"),
        (
            _FLOW.replace("day: int = 1", "day: float = __import__('time').monotonic()"),
            {},
            "the parameter schema of flows/etl.py changes between imports",
        ),
    ],
    ids=["import", "slow", "parameter", "value", "clock"],
)
def test_a_deployment_that_would_fail_is_named_with_its_entrypoint_and_the_cause(
    directory: Path, flow: str, deployment: dict[str, object], cause: str
) -> None:
    (problem,) = found(directory, flow, **deployment)

    assert problem.startswith(f"the deployment daily ({_ENTRYPOINT}): ")
    assert cause in problem


def test_a_deployment_that_can_run_has_no_problem(directory: Path) -> None:
    assert found(directory, _FLOW, parameters={"day": 2}) == []
