"""An image's tag depends on the inputs of the image and on nothing else."""

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.catalogue import RECIPES, Recipe, recipes, reference

_NAMES = st.text("abcxyz", min_size=1, max_size=4)
_CONTENTS = st.binary(max_size=8)
_TREES = st.dictionaries(_NAMES, _CONTENTS, min_size=1, max_size=4)
_RECIPE = Recipe("example", "context", ("Dockerfile", "sources"), target="example")


@pytest.fixture(params=RECIPES, ids=lambda recipe: str(recipe.name))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    given: Recipe = request.param
    return given


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a copy of the repository that has only the inputs of the images."""
    for each in RECIPES:
        for path in each.paths(REPOSITORY):
            copy = tmp_path / path.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copy, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, copy)
    return tmp_path


def _tag(tree: dict[str, bytes], *, base: str = "base", dockerfile: bytes = b"FROM x") -> str:
    with TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        (context / "sources").mkdir(parents=True)
        (context / "Dockerfile").write_bytes(dockerfile)
        for name, content in tree.items():
            (context / "sources" / name).write_bytes(content)
        return reference(_RECIPE, base, Path(folder))


@settings(deadline=None)  # it writes files, which takes long on a busy disk
@given(_TREES, _TREES)
def test_two_trees_have_the_same_tag_if_and_only_if_they_are_equal(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    assert (_tag(one) == _tag(other)) == (one == other)


@settings(deadline=None)  # it writes files, which takes long on a busy disk
@given(_TREES)
def test_the_tag_does_not_depend_on_the_order_in_which_files_are_written(
    tree: dict[str, bytes],
) -> None:
    assert _tag(tree) == _tag(dict(reversed(tree.items())))


def test_another_base_or_dockerfile_changes_the_tag() -> None:
    tags = {
        _tag({}),
        _tag({}, base="other"),
        _tag({}, dockerfile=b"FROM y"),
    }
    assert len(tags) == 3


def test_every_input_changes_the_tag(recipe: Recipe, repository: Path) -> None:
    before = reference(recipe, "base", repository)
    for path in recipe.paths(repository):
        file = next(path.rglob("*.py")) if path.is_dir() else path
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        assert reference(recipe, "base", repository) != before, f"{path} is not in the tag"
        file.write_bytes(content)
    assert reference(recipe, "base", repository) == before


def test_bytecode_and_files_that_are_not_inputs_do_not_change_the_tag(
    recipe: Recipe, repository: Path
) -> None:
    before = reference(recipe, "base", repository)
    for name in ("README.md", "src/other.py", "flows/__pycache__/etl.pyc", "tests/test.py"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("anything")
    assert reference(recipe, "base", repository) == before


def test_the_cli_and_the_lock_file_do_not_change_the_tag(recipe: Recipe, repository: Path) -> None:
    before = reference(recipe, "base", repository)
    for path in ("pyproject.toml", "uv.lock", "src/prefect_platform_cli/main.py"):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, repository / path)
        assert reference(recipe, "base", repository) == before, path


def test_a_new_flow_changes_the_flows_image_but_not_the_platform_image(repository: Path) -> None:
    platform, flows = recipes(["platform", "flows"])
    before = [reference(each, "base", repository) for each in (platform, flows)]
    (repository / "flows" / "new.py").write_text("")
    after = [reference(each, "base", repository) for each in (platform, flows)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_every_path_that_a_dockerfile_copies_is_an_input(recipe: Recipe) -> None:
    dockerfile = (REPOSITORY / recipe.context / "Dockerfile").read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    }
    inputs = {given for each in RECIPES if each.context == recipe.context for given in each.inputs}
    assert copied
    assert copied <= inputs


def test_dockerignore_allows_exactly_the_inputs() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    inputs = {
        given if given.startswith("src/") else given.partition("/")[0]
        for each in RECIPES
        if each.context == "."
        for given in each.inputs
        if given not in {"Dockerfile", ".dockerignore"}
    }
    assert allowed == inputs


def test_an_unknown_image_is_refused_with_a_list_of_the_known_ones() -> None:
    with pytest.raises(PlatformError) as refusal:
        recipes(["platfrom"])
    assert "platfrom" in refusal.value.message
    assert "platform, flows, postgres, redis, seaweedfs, argocd" in refusal.value.next_step


def test_a_missing_input_is_named_in_the_error(repository: Path) -> None:
    (repository / "prefect.yaml").unlink()
    (flows,) = recipes(["flows"])
    with pytest.raises(PlatformError, match=r"flows cannot be built: .*prefect\.yaml is missing"):
        reference(flows, "base", repository)
