"""`make push` gives the signing key and its password to cosign alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import withheld
from prefect_platform_cli.host.toolchain import version
from prefect_platform_cli.images.catalogue import Recipe
from prefect_platform_cli.images.layered import code_layer

_KEY, _PASSWORD = "the-content-of-a-private-key", "the-password-of-the-key"


def _program(folder: Path, name: str, printed: str, *, succeeds: bool) -> None:
    """Write a program that records its environment when it is asked for anything but a version."""
    file = folder / name
    file.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = version ] && echo "{printed}" && exit\n'
        f"env > {folder}/{name}.environment\n"
        f"exit {0 if succeeds else 1}\n"
    )
    file.chmod(0o755)


def test_only_cosign_has_the_signing_key_and_its_password(tmp_path: Path) -> None:
    _program(tmp_path, "git", "", succeeds=True)
    _program(tmp_path, "cosign", f"GitVersion: {version('cosign')}", succeeds=False)

    pushed = subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), "push"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CLIENTS": "path",
            "REGISTRY": "registry.test/platform",
            "ENVIRONMENT": "staging",
            "SIGNING_KEY": "env://SIGNING_TEST",
            "SIGNING_TEST": _KEY,
            "COSIGN_PASSWORD": _PASSWORD,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert "SIGNING_KEY=env://SIGNING_TEST cannot be used" in pushed.stderr
    of_git = (tmp_path / "git.environment").read_text()
    of_cosign = (tmp_path / "cosign.environment").read_text()
    assert _KEY not in of_git
    assert _PASSWORD not in of_git
    assert f"SIGNING_TEST={_KEY}" in of_cosign
    assert f"COSIGN_PASSWORD={_PASSWORD}" in of_cosign


def test_code_with_a_withheld_password_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "settings.toml").write_text(f"password = '{_PASSWORD}'")
    monkeypatch.setattr(withheld, "_values", {})
    monkeypatch.setenv("COSIGN_PASSWORD", _PASSWORD)
    withheld.withhold("COSIGN_PASSWORD")

    with pytest.raises(PlatformError, match="would bring secrets into an image"):
        code_layer(
            {"config": {"WorkingDir": "/opt/prefect"}},
            Recipe("flows", ".", ("flows",), code=("flows",)),
            tmp_path,
        )

    assert "COSIGN_PASSWORD" not in os.environ
