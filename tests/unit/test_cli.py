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


def test_a_word_that_accepts_nothing_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    refused = subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), "deploy"],
        env={**os.environ, "UNENFORCED_POLICIES": "yes", "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "error: UNENFORCED_POLICIES=yes is not known; there is accept" in refused.stderr
    assert list(tmp_path.iterdir()) == []
