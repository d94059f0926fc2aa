"""GitHub's workflows run make targets with as few rights as they need, and propose commits.

The workflows themselves run only on GitHub; `make lint` checks them with actionlint.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY

_FOLDER = REPOSITORY / ".github" / "workflows"
_WORKFLOWS = sorted(_FOLDER.glob("*.yaml"))
_PROPOSE = REPOSITORY / "scripts" / "propose"
# Stands in for GitHub's command line tool, which needs GitHub: records how it is called, and lists
# a pull request once one has been opened.
_GH = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
case "$2" in list) grep --count '^pr create' "$CALLS" ;; esac
exit 0
"""


def _jobs(workflow: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from yaml.safe_load(workflow.read_text())["jobs"].items()


def _steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for _, job in _jobs(workflow):
        yield from job.get("steps", [])


@pytest.mark.parametrize("workflow", _WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_reads_only_unless_a_job_says_what_it_writes(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("workflow", _WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_every_job_has_a_time_limit(workflow: Path) -> None:
    used = [step["uses"] for step in _steps(workflow) if "uses" in step]

    assert [each for each in used if not re.search(r"@[0-9a-f]{40}$", each)] == []
    unlimited = [name for name, job in _jobs(workflow) if "timeout-minutes" not in job]
    assert unlimited == [name for name, job in _jobs(workflow) if "uses" in job]


@pytest.mark.parametrize("workflow", _WORKFLOWS, ids=lambda path: path.stem)
def test_no_expression_is_expanded_in_a_script(workflow: Path) -> None:
    scripts = [step["run"] for step in _steps(workflow) if "run" in step]

    assert [each for each in scripts if "${{" in each] == []


@pytest.mark.parametrize(
    "file", [*_WORKFLOWS, REPOSITORY / ".pre-commit-config.yaml"], ids=lambda path: path.name
)
def test_every_target_that_a_pipeline_makes_exists(file: Path) -> None:
    made = re.findall(r"(?:run|entry): (?:sudo \S+ )?make ((?:[a-z-]+ ?)+)", file.read_text())
    wanted = {target for targets in made for target in targets.split()}
    exist = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    assert wanted
    assert wanted <= exist


def test_code_of_a_pull_request_never_runs_with_a_right_to_write() -> None:
    for workflow in _WORKFLOWS:
        triggers = yaml.safe_load(workflow.read_text())[True]  # YAML 1.1 reads `on` as true
        assert "pull_request_target" not in triggers
        if "pull_request" in triggers:
            assert [name for name, job in _jobs(workflow) if "permissions" in job] == []


@pytest.mark.parametrize("workflow", ["push", "promote"])
def test_what_reads_the_history_checks_all_of_it_out(workflow: str) -> None:
    checkout, *_ = _steps(_FOLDER / f"{workflow}.yaml")

    assert checkout["with"]["fetch-depth"] == 0


def test_images_are_promoted_only_from_main() -> None:
    ((_, job),) = _jobs(_FOLDER / "promote.yaml")

    assert job["if"] == "github.ref == 'refs/heads/main'"
    assert job["steps"][0]["with"]["ref"] == "main"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a clone whose origin has one commit on main, with the stand-in for gh on PATH."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tests")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tests@example.org")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gh = tmp_path / "gh"
    gh.write_text(_GH)
    gh.chmod(0o755)
    (tmp_path / "calls").touch()
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    _write_digest(clone, "one")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "--message=Begin")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    return clone


def _write_digest(clone: Path, digest: str) -> None:
    file = clone / "k8s" / "environments" / "staging" / "images.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"flows: {digest}\n")


def _propose(clone: Path) -> list[str]:
    """Propose what the clone has, and return all calls of gh so far."""
    subprocess.run([_PROPOSE, "images-of-staging", "Deploy to staging"], cwd=clone, check=True)
    return (clone.parent / "calls").read_text().splitlines()


def _proposed(clone: Path, *revisions: str) -> list[str]:
    origin = clone.parent / "origin"
    return git(origin, "log", "--format=%s", "main..images-of-staging", *revisions).splitlines()


def test_changed_digests_are_proposed_once(checkout: Path) -> None:
    _write_digest(checkout, "two")
    calls = _propose(checkout)

    assert _proposed(checkout) == ["Deploy to staging"]
    assert [call.partition(" --title")[0] for call in calls if "pr create" in call] == [
        "pr create --head images-of-staging --base main"
    ]

    git(checkout, "reset", "--quiet", "--hard", "origin/main")
    _write_digest(checkout, "three")
    calls = _propose(checkout)
    assert _proposed(checkout) == ["Deploy to staging"], "the older proposal is not replaced"
    assert sum("pr create" in call for call in calls) == 1


def test_nothing_is_proposed_if_main_has_the_same_digests(checkout: Path) -> None:
    assert _propose(checkout) == []
    assert git(checkout.parent / "origin", "branch", "--list", "images-of-staging") == ""


def test_a_commit_that_was_made_before_is_proposed(checkout: Path) -> None:
    _write_digest(checkout, "two")
    git(checkout, "commit", "--quiet", "--all", "--message=Promote the images")

    _propose(checkout)

    assert _proposed(checkout) == ["Promote the images"]
