"""Programs of Debian that a test needs, or the reason why it is skipped."""

import pytest

from prefect_platform import debian
from prefect_platform.errors import PlatformError


def require(package: str) -> None:
    """Install a package when it is missing; skip the test where that cannot be done."""
    try:
        debian.ensure_packages(package)
    except PlatformError as error:
        pytest.skip(str(error))
