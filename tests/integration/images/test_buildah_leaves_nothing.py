"""However a build ends, it leaves no processes or mounts, and the next build completes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.base import choose_base
from prefect_platform_cli.images.buildah import Buildah
from prefect_platform_cli.images.builder import Order

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root to build images")
REFERENCE = "prefect-platform.local/example:1"
BUILD = """
import sys
from collections.abc import Callable
from pathlib import Path
from prefect_platform_cli.images.buildah import Buildah
from prefect_platform_cli.images.builder import Order
folder, context, base, local = sys.argv[1:]
Buildah(Path(folder)).build(
    Order(
        "prefect-platform.local/example:1",
        Path(context),
        Path(context) / "log",
        arguments={"BASE": base},
        base_is_local=local == "True",
    )
)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, bool]:
    """Return a store with the base image, its reference, and whether it exists only locally."""
    folder = tmp_path_factory.mktemp("buildah")
    chosen = choose_base()
    if chosen.rootfs is None:
        return folder, chosen.reference, False
    context = tmp_path_factory.mktemp("base")
    (context / "rootfs.tar").write_bytes(chosen.rootfs.read_bytes())
    (context / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
    Buildah(folder).build(Order(chosen.reference, context, context / "log"))
    return folder, chosen.reference, True


def _order(base: tuple[Path, str, bool], context: Path, step: str) -> Order:
    (context / "Dockerfile").write_text(f"ARG BASE\nFROM ${{BASE}}\nRUN {step}\n")
    _, reference, local = base
    return Order(
        REFERENCE, context, context / "log", arguments={"BASE": reference}, base_is_local=local
    )


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def _processes_of(marker: str) -> list[str]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = command.read_bytes().split(b"\0")
        except OSError:
            continue  # the process has ended in the meantime
        if marker.encode() in arguments:
            found.append(str(command))
    return found


def test_a_build_stores_its_image_and_leaves_no_mounts(
    base: tuple[Path, str, bool], tmp_path: Path
) -> None:
    before = _mounts()
    builder = Buildah(base[0])
    builder.build(_order(base, tmp_path, "touch /made"))
    assert REFERENCE in builder.references()
    assert _mounts() == before


def test_a_failed_step_is_reported_with_its_output(
    base: tuple[Path, str, bool], tmp_path: Path
) -> None:
    order = _order(base, tmp_path, "echo the disk of the moon is full && false")
    with pytest.raises(PlatformError) as failure:
        Buildah(base[0]).build(order)
    assert "RUN echo" in failure.value.message
    assert "the disk of the moon is full" in failure.value.message
    assert str(order.log) in failure.value.next_step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_build_leaves_nothing_behind_and_the_next_build_completes(
    base: tuple[Path, str, bool], tmp_path: Path, number: signal.Signals
) -> None:
    before = _mounts()
    marker = f"marker-{os.urandom(4).hex()}"
    order = _order(base, tmp_path, f"tail -f /dev/null --pid 1 {marker}")
    folder, reference, local = base
    building = subprocess.Popen(
        [sys.executable, "-c", BUILD, folder, tmp_path, reference, str(local)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _until(lambda: bool(_processes_of(marker)))
    os.killpg(building.pid, number)
    assert building.wait() != 0
    _until(lambda: not _processes_of(marker))
    assert _mounts() == before
    Buildah(folder).build(_order(base, tmp_path, "touch /made"))
    assert order.reference in Buildah(folder).references()


def test_environment_variables_of_the_machine_do_not_reach_the_build(
    base: tuple[Path, str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_MACHINE", "hush")
    Buildah(base[0]).build(_order(base, tmp_path, 'test -z "$A_SECRET_OF_THE_MACHINE"'))


@retry(
    retry=retry_if_result(lambda reached: not reached),
    wait=wait_fixed(0.1),
    stop=stop_after_delay(120),
)
def _until(condition: Callable[[], bool]) -> bool:
    return condition()
