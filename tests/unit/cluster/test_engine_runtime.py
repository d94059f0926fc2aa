"""Where a machine withholds CAP_SYS_RESOURCE, runc is asked for everything but that."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_cli.cluster.engine import runc_without_sys_resource

_ALL = ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_NET_ADMIN"]
_LEFT = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]


@pytest.fixture
def process() -> dict[str, Any]:
    """A process of an OCI bundle that asks for every capability."""
    return {"args": ["sh"], "capabilities": {"bounding": _ALL, "effective": _ALL, "ambient": None}}


def _run(folder: Path, *arguments: str) -> str:
    """Run the wrapper as the engine does and return what reached runc."""
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


def _expect(process: dict[str, Any]) -> dict[str, Any]:
    capabilities = {"bounding": _LEFT, "effective": _LEFT, "ambient": []}
    return {**process, "capabilities": capabilities}


@pytest.mark.parametrize("option", [["--bundle", "bundle"], ["--bundle=bundle"], ["-b", "bundle"]])
def test_a_container_is_created_without_the_capability(
    tmp_path: Path, process: dict[str, Any], option: list[str]
) -> None:
    config = tmp_path / "bundle" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"ociVersion": "1.0.2", "process": process}))
    printed = _run(tmp_path, "--root", "/run/x", "create", *option, "name")
    assert json.loads(config.read_text()) == {"ociVersion": "1.0.2", "process": _expect(process)}
    assert printed == f"--root /run/x create {' '.join(option)} name\n"


def test_a_process_is_added_without_the_capability(tmp_path: Path, process: dict[str, Any]) -> None:
    (tmp_path / "process.json").write_text(json.dumps(process))
    _run(tmp_path, "exec", "--process", "process.json", "--detach", "name")
    assert json.loads((tmp_path / "process.json").read_text()) == _expect(process)


def test_other_commands_reach_runc_as_they_are(tmp_path: Path) -> None:
    assert _run(tmp_path, "--log=x", "delete", "--force", "exec-name") == (
        "--log=x delete --force exec-name\n"
    )
