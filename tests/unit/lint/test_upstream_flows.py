"""The flows and tasks that Prefect and its integrations ship raise no false alarm."""

import ast
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from prefect_platform_cli.lint.findings import Severity
from prefect_platform_cli.lint.linter import lint

_PACKAGES = ("prefect", "prefect_aws", "prefect_gcp", "prefect_kubernetes", "prefect_redis")
_DECORATORS = {"flow", "task"}


def modules(folder: Path) -> list[Path]:
    """Copy the packages to `folder`, and return their modules in order.

    They are copied because modules are not searched for below site-packages.
    """
    for package in _PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in Path(spec.origin).parent.rglob("*.py"):
            copy = folder / package / path.relative_to(Path(spec.origin).parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return sorted(folder.rglob("*.py"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return copies of the modules that define flows or tasks, beside those that they import."""
    return [path for path in modules(tmp_path_factory.mktemp("corpus")) if decorated(path)]


def decorated(path: Path) -> list[ast.expr]:
    """Return the decorators of flows and tasks in a file, without the linter's help."""
    text = path.read_text()
    if not any(f"@{name}" in text for name in _DECORATORS):
        return []
    return [
        each
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for each in node.decorator_list
        if getattr(each.func if isinstance(each, ast.Call) else each, "id", "") in _DECORATORS
    ]


def test_the_only_errors_are_network_calls_of_tasks_that_have_no_retries(
    corpus: list[Path],
) -> None:
    report = lint(corpus)
    without_retries = {
        (path, each.lineno)
        for path in corpus
        for each in decorated(path)
        if "retries" not in ast.unparse(each)
    }
    errors = [each for each in report.findings if each.rule.severity is Severity.MUST]

    assert report.unreadable == []
    assert {each.rule.id for each in errors} == {"PF003"}
    assert {(each.path, each.line) for each in errors} <= without_retries
    # Tasks that call boto3 and Google's clients through blocks and helpers in other modules.
    assert {each.path.parent.name for each in errors} >= {"prefect_aws", "prefect_gcp"}
