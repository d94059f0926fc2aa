"""Root modules of terraform/ in a folder of their own, and OpenTofu run in them."""

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
    """An initialised root module; `environment` is all that OpenTofu sees of ours.

    `printed` is what each run has printed so far, its errors too.
    """

    path: Path
    environment: Mapping[str, str]
    printed: list[str] = field(default_factory=list)

    def run(self, *arguments: str, **variables: str) -> str:
        """Return what OpenTofu prints; fails the test with it when it exits with an error."""
        completed = self._run(arguments, variables)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    def refusal(self, *arguments: str, **variables: str) -> str:
        """Return OpenTofu's error as one line; fails the test when there is none."""
        completed = self._run(arguments, variables)
        assert completed.returncode == 1, completed.stdout
        return " ".join(completed.stderr.split())

    def apply(self, **variables: str) -> None:
        """Make what the root module declares."""
        self.run("apply", "-auto-approve", **variables)

    def changes(self, **variables: str) -> dict[str, list[str]]:
        """Return what a plan would do, by the address of what changes."""
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

    def seeing(self, name: str, value: str) -> "RootModule":
        """Return the same module with another variable of its environment."""
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
    """Copy terraform/ and what it reads into `directory`, so that runs leave nothing in ours."""
    for folder in ("terraform", "k8s/environments"):
        shutil.copytree(
            REPOSITORY / folder, directory / folder, ignore=shutil.ignore_patterns(".terraform*")
        )
    return directory / "terraform"
