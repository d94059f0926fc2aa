"""In continuous integration, a skipped test fails and says what it needs."""

import re
import subprocess
import sys
from pathlib import Path

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.servers import clean_environment

_MODULES = {
    "mark": "@pytest.mark.skipif(True, reason='needs a moon')\ndef test(): pass",
    "fixture": "@pytest.fixture\ndef moon(): pytest.skip('needs a moon')\ndef test(moon): pass",
    "module": "pytest.importorskip('moon', reason='needs a moon')\ndef test(): pass",
    "package": (
        "from tests.support.requirements import require_packages\n"
        "def test(): require_packages('the-moon')"
    ),
    "inapplicable": (
        "from tests.support.requirements import does_not_apply\n"
        "def test(): does_not_apply('there is no moon')"
    ),
    "expected": "@pytest.mark.xfail\ndef test(): assert False",
}


def outcomes(folder: Path, **variables: str) -> tuple[dict[str, int], str]:
    """Run one module of each kind, and return the count of each outcome and the output."""
    for name, content in _MODULES.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n{content}\n")
    (folder / "pytest.ini").touch()
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--import-mode=importlib"),
            *("--continue-on-collection-errors", "-p", "no:cacheprovider"),
            *("-p", "tests.support.requirements", str(folder)),
        ],
        # This PATH has no dpkg-query, so no package can be installed.
        env=clean_environment(folder, PYTHONPATH=str(REPOSITORY), **variables)
        # Plugins are not needed, but slow.
        | {"PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    counts = re.findall(r"(\d+) ([a-z]+)", ran.stdout.splitlines()[-1])
    return {outcome: int(number) for number, outcome in counts}, ran.stdout


def test_a_skipped_test_fails_in_ci_and_says_what_it_needs(tmp_path: Path) -> None:
    elsewhere, _ = outcomes(tmp_path)
    in_ci, printed = outcomes(tmp_path, CI="true")

    assert elsewhere == {"skipped": 5, "xfailed": 1}
    assert in_ci == {"failed": 1, "errors": 3, "skipped": 1, "xfailed": 1}, printed
    assert "the-moon cannot be installed" in printed
    assert "CI is set, where a test that is skipped counts as failed" in printed
