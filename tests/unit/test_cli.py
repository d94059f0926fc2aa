"""The command line's errors are the sentence as it is, whatever characters it holds."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_sentence_with_brackets_is_printed_and_not_read_as_markup() -> None:
    refused = subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), "status"],
        env={**os.environ, "CLUSTER": "[/red]"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "error: CLUSTER=[/red] is not a provider" in refused.stderr
    assert "Traceback" not in refused.stderr
