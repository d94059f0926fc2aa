"""The deployments of prefect.yaml, sent to the server when they or their flows changed."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from prefect_platform.process import run


def fingerprint(repository: Path) -> str:
    """Return a checksum of all that `prefect deploy` reads: prefect.yaml and the flows."""
    digest = hashlib.sha256()
    for path in [repository / "prefect.yaml", *sorted((repository / "flows").rglob("*.py"))]:
        digest.update(str(path.relative_to(repository)).encode() + path.read_bytes())
    return digest.hexdigest()


def deploy_all(repository: Path, api_url: str, auth_string: str) -> None:
    """Create or update every deployment of prefect.yaml.

    Raises PlatformError with the last lines of `prefect deploy` when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-") as home:
        run(
            [Path(sys.executable).with_name("prefect"), "--no-prompt", "deploy", "--all"],
            failure="the deployments of prefect.yaml cannot be deployed",
            next_step="correct prefect.yaml or the flow that it names, then run it again",
            cwd=repository,
            env={
                **os.environ,
                "PREFECT_HOME": home,
                "PREFECT_API_URL": api_url,
                "PREFECT_API_AUTH_STRING": auth_string,
                "COLUMNS": "200",
            },
        )
