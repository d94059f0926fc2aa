"""Linters find nothing in the Dockerfiles and shell scripts of the images."""

import subprocess
import sys
from pathlib import Path

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.catalogue import ARGOCD, RECIPES

DOCKERFILES = sorted({REPOSITORY / recipe.context / "Dockerfile" for recipe in (*RECIPES, ARGOCD)})
SCRIPTS = sorted((REPOSITORY / "k8s" / "kind" / "images").glob("*/*.sh"))
# Only BuildKit supports these. Without them, every builder can build the Dockerfiles.
BUILDKIT_ONLY = ("RUN --", "COPY --chmod", "COPY --chown", "COPY --link", "<<", "# syntax")


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _findings(linter: str, file: Path) -> str:
    program = Path(sys.executable).with_name(linter)
    completed = subprocess.run(
        [str(program), str(file)], capture_output=True, text=True, check=False
    )
    return completed.stdout + completed.stderr if completed.returncode else ""


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=_name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    assert _findings("hadolint", dockerfile) == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=_name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert _findings("shellcheck", script) == ""


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=_name)
def test_every_builder_supports_every_instruction(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert [word for word in BUILDKIT_ONLY if word in text] == []
