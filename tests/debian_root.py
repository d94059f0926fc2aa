"""What tests need that make networks, engines or nodes of their own."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest


def skip_without_root(items: Iterable[pytest.Item], folder: Path) -> None:
    """Skip the tests in `folder`, saying why, where nobody may make these."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs root on Debian or Ubuntu"))
