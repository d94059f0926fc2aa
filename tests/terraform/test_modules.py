"""Every module is valid, passes its own tests and has an up-to-date reference."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.requirements import does_not_apply
from tests.terraform import reference
from tests.terraform.root_module import RootModule

MODULES = sorted(
    str(path.parent.relative_to(REPOSITORY / "terraform"))
    for path in (REPOSITORY / "terraform").rglob("main.tf")
)


@pytest.mark.parametrize("folder", MODULES)
def test_a_module_is_valid_and_passes_its_own_tests(
    folder: str, plugins: Path, initialised: Callable[..., RootModule]
) -> None:
    needed = re.findall(
        r'source\s+= "(hashicorp/\w+)"',
        (REPOSITORY / "terraform" / folder / "versions.tf").read_text(),
    )
    for provider in needed:
        if not list(plugins.glob(f"*/{provider}")):
            does_not_apply(
                f"needs the provider {provider}, which has no stand-in: see TERRAFORM_PLUGINS"
            )
    module = initialised(folder, "-backend=false")

    module.run("validate")
    if (module.path / "tests").exists():
        module.run("test")


@pytest.mark.parametrize("module", reference.MODULES, ids=lambda module: module.name)
def test_the_reference_matches_the_variables_and_outputs(module: Path) -> None:
    checked = reference.terraform_docs(module, "--output-check")

    assert checked.returncode == 0, f"{checked.stderr}Run: {reference.COMMAND}"
