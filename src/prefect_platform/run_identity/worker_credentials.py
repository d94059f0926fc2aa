"""Passwords of workers outside the cluster, for which Kubernetes has no tokens.

Such a worker has the auth string `POOL:PASSWORD`. It opens what a worker of that pool may use.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from pathlib import Path

from prefect_platform.run_identity.identity import Identity, Part

_BELIEVED = timedelta(hours=1)  # a web socket with a password that was changed is closed after it


class WorkerCredentials:
    """A folder with a file for each work pool, which holds the password and may change."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def identify(self, auth_string: str) -> Identity | None:
        """Return the worker that an auth string proves, None if it proves none."""
        pool, _, password = auth_string.partition(":")
        expected = self._password(pool)
        given = password.encode(errors="surrogatepass")
        if not expected or not compare_digest(expected.encode(), given):
            return None
        return Identity(Part.WORKER, datetime.now(UTC) + _BELIEVED, pool=pool)

    def identify_header(self, credential: str) -> Identity | None:
        """Return the worker that the credential of a Basic header proves, None if none."""
        try:
            return self.identify(base64.b64decode(credential, validate=True).decode())
        except (binascii.Error, ValueError):
            return None

    def _password(self, pool: str) -> str:
        """Return the password of a pool, an empty one if it has none. The name is input."""
        for file in self._folder.iterdir() if self._folder else ():
            if file.name == pool and file.is_file() and not pool.startswith("."):
                return file.read_text().strip()
        return ""
