"""A copy of the repository, in which flows are edited without touching those of the developer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from prefect_platform_cli.host.paths import REPOSITORY

_COPIED = ("flows", "prefect.yaml", "src")  # the package finds the repository by its own place
_MAIN = "from prefect_platform_cli.main import main; main()"
_LINE = 'print(f"{day}: from {target}")'


def copy_repository(folder: Path) -> Path:
    """Copy what is edited to `folder`, and link the rest; return `folder`."""
    for path in REPOSITORY.iterdir():
        if path.name not in _COPIED:
            (folder / path.name).symlink_to(path)
        elif path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy(path, folder)
    return folder


def edit(repository: Path, word: str) -> None:
    """Let the daily ETL print `word` before its first line."""
    original = (REPOSITORY / "flows" / "etl_daily.py").read_text()
    assert _LINE in original
    edited = original.replace(_LINE, f'print("{word}"); {_LINE}')
    (repository / "flows" / "etl_daily.py").write_text(edited)


def start_in(repository: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command line tool of the copy; standard error goes to standard output."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"DOCKER_HOST", "KUBECONFIG"}}
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *arguments],
        env={**inherited, "PYTHONPATH": str(repository / "src"), "COLUMNS": "200", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
