"""Copies of the root modules in terraform/, and the runs of OpenTofu in them."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool


@dataclass(frozen=True)
class RootModule:
    """An initialised root module; `environment` has all of OpenTofu's environment variables.

    `printed` collects the output and the errors of every run.
    """

    path: Path
    environment: Mapping[str, str]
    printed: list[str] = field(default_factory=list)

    def run(self, *arguments: str, **variables: str) -> str:
        """Run OpenTofu and return its output; fail the test if it exits with an error."""
        completed = self._run(arguments, variables)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    def refusal(self, *arguments: str, **variables: str) -> str:
        """Run OpenTofu and return its error as one line; fail the test if there is none."""
        completed = self._run(arguments, variables)
        assert completed.returncode == 1, completed.stdout
        return " ".join(completed.stderr.split())

    def apply(self, **variables: str) -> None:
        """Apply the root module."""
        self.run("apply", "-auto-approve", **variables)

    def changes(self, **variables: str) -> dict[str, list[str]]:
        """Return the actions of a plan, by the address of the resource."""
        self.run("plan", "-out=plan", **variables)
        plan = json.loads(self.run("show", "-json", "plan"))
        return {
            each["address"]: each["change"]["actions"]
            for each in plan["resource_changes"]
            if each["change"]["actions"] != ["no-op"]
        }

    def objects(self) -> list[str]:
        """Return the addresses of the objects in the state."""
        listed = self.run("state", "list").splitlines()
        return [each for each in listed if ".data." not in f".{each}"]

    def output(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return the value of an output."""
        return json.loads(self.run("output", "-json", name))

    def with_variable(self, name: str, value: str) -> "RootModule":
        """Return the same module with another value of an environment variable."""
        return replace(self, environment={**self.environment, name: value})

    def _run(
        self, arguments: tuple[str, ...], variables: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        given = {f"TF_VAR_{name}": value for name, value in variables.items()}
        completed = subprocess.run(
            [tool("tofu"), *arguments],
            cwd=self.path,
            env={**self.environment, **given},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.printed.extend((completed.stdout, completed.stderr))
        return completed


def copy(directory: Path) -> Path:
    """Copy terraform/ and the files it reads to `directory`, so that runs leave ours unchanged."""
    for folder in ("terraform", "k8s/environments"):
        shutil.copytree(
            REPOSITORY / folder, directory / folder, ignore=shutil.ignore_patterns(".terraform*")
        )
    return directory / "terraform"
