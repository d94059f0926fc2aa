"""What each module's own tests promise, the form of its files, and its reference."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_platform.paths import REPOSITORY
from tests.terraform.root_module import RootModule

MODULES = sorted(
    str(path.parent.relative_to(REPOSITORY / "terraform"))
    for path in (REPOSITORY / "terraform").rglob("main.tf")
)


@pytest.mark.parametrize("folder", MODULES)
def test_it_is_formatted_and_valid_and_its_own_tests_pass(
    folder: str, initialised: Callable[..., RootModule]
) -> None:
    module = initialised(folder, "-backend=false")

    module.run("fmt", "-check", "-diff", "-recursive")
    module.run("validate")
    if Path(module.path / "tests").exists():
        module.run("test")
