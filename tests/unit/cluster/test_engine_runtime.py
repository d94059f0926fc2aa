"""On a machine without CAP_SYS_RESOURCE, containers run without that capability."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_cli.cluster.engine import runc_without_sys_resource

_ALL = ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_NET_ADMIN"]
_REMAINING = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]


@pytest.fixture
def process() -> dict[str, Any]:
    """Return a process of an OCI bundle that requests every capability."""
    return {"args": ["sh"], "capabilities": {"bounding": _ALL, "effective": _ALL, "ambient": None}}


def _run(folder: Path, *arguments: str) -> str:
    """Run the wrapper as the engine does and return the arguments that reached runc."""
    (folder / "runc").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "runc").chmod(0o755)
    wrapper = Path(runc_without_sys_resource.__file__)
    return subprocess.run(
        [sys.executable, "-IS", wrapper, *arguments],
        env={"PATH": f"{folder}{os.pathsep}/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _reduced(process: dict[str, Any]) -> dict[str, Any]:
    capabilities = {"bounding": _REMAINING, "effective": _REMAINING, "ambient": []}
    return {**process, "capabilities": capabilities}


@pytest.mark.parametrize("option", [["--bundle", "bundle"], ["--bundle=bundle"], ["-b", "bundle"]])
def test_a_container_is_created_without_the_capability(
    tmp_path: Path, process: dict[str, Any], option: list[str]
) -> None:
    config = tmp_path / "bundle" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"ociVersion": "1.0.2", "process": process}))
    printed = _run(tmp_path, "--root", "/run/x", "create", *option, "name")
    assert json.loads(config.read_text()) == {"ociVersion": "1.0.2", "process": _reduced(process)}
    assert printed == f"--root /run/x create {' '.join(option)} name\n"


def test_exec_adds_a_process_without_the_capability(
    tmp_path: Path, process: dict[str, Any]
) -> None:
    (tmp_path / "process.json").write_text(json.dumps(process))
    _run(tmp_path, "exec", "--process", "process.json", "--detach", "name")
    assert json.loads((tmp_path / "process.json").read_text()) == _reduced(process)


def test_other_commands_reach_runc_unchanged(tmp_path: Path) -> None:
    assert _run(tmp_path, "--log=x", "delete", "--force", "exec-name") == (
        "--log=x delete --force exec-name\n"
    )
