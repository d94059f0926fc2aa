"""The error of a failed build names the failed step and the log."""

import os
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.builder import Order, run_logged

BUILDAH = "[2/2] STEP 3/9: RUN pip install\\n--> Using cache\\n[2/2] STEP 4/9: RUN make"
DOCKER = "Step 3/9 : RUN pip install\\n ---> 0123\\nStep 4/9 : RUN make"
BUILDKIT = "#7 [flows 3/9] RUN pip install\\n#7 DONE 0.1s\\n#8 [flows 4/9] RUN make"


@pytest.mark.parametrize("steps", [BUILDAH, DOCKER, BUILDKIT], ids=["buildah", "docker", "kit"])
def test_the_error_shows_the_failed_step_its_last_lines_and_the_log(
    tmp_path: Path, steps: str
) -> None:
    order = Order("prefect-platform.local/flows:1", tmp_path, tmp_path / "logs" / "flows.log")
    script = f"printf '{steps}\\nno rule to make target\\n' ; exit 2"
    with pytest.raises(PlatformError) as failure:
        run_logged(["sh", "-c", script], order, os.environ)
    assert "prefect-platform.local/flows:1" in failure.value.message
    assert "RUN make: " in failure.value.message
    assert "no rule to make target" in failure.value.message
    assert failure.value.next_step == f"less {order.log}"
    assert "RUN pip install" in order.log.read_text()


def test_the_output_of_a_successful_build_is_kept_too(tmp_path: Path) -> None:
    order = Order("prefect-platform.local/flows:1", tmp_path, tmp_path / "flows.log")
    run_logged(["sh", "-c", "echo warning >&2"], order, os.environ)
    assert order.log.read_text() == "warning\n"
