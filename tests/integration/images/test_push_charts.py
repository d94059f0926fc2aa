"""The charts are pushed to a real registry, and installed from there as the page says."""

import shlex
import shutil
import subprocess
from pathlib import Path

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.images.charts import push_charts
from prefect_platform_cli.images.environment import Images, write
from prefect_platform_cli.images.remote import Registry
from tests.support.documented import block

_EXAMPLE = "ghcr.io/example/platform"
_IMAGES = "k8s/environments/production/images.yaml"


def test_a_chart_is_pushed_once_and_gets_another_version_when_a_file_changes(
    host: str, tmp_path: Path
) -> None:
    registry = Registry(f"{host}/charts-that-change")
    chart = tmp_path / "prefect-server"
    shutil.copytree(REPOSITORY / "helm" / "prefect-server", chart)

    (first,) = push_charts(registry, [chart])
    (again,) = push_charts(registry, [chart])
    (chart / "README.md").write_text("changed")
    (changed,) = push_charts(registry, [chart])

    assert (first.is_new, again.is_new, changed.is_new) == (True, False, True)
    assert first.version == again.version != changed.version


def test_the_commands_of_the_page_render_the_same_from_the_registry_and_from_the_folders(
    host: str, tmp_path: Path
) -> None:
    registry = Registry(f"{host}/ours")
    pushed = push_charts(registry)
    images = tmp_path / "images.yaml"
    digests = dict.fromkeys(("flows", "platform"), f"sha256:{'0' * 64}")
    write(images, Images(registry.address, digests))
    folders, remote = (
        [line.replace(_IMAGES, str(images)) for line in _commands(heading)]
        for heading in ("## Install from the registry", "### Install the charts from the registry")
    )

    for chart, folder, pulled in zip(pushed, folders, remote, strict=True):
        version = chart.version.replace("+", "_")  # as in the label that names the chart
        released = pulled.replace(_EXAMPLE, registry.address).replace("VERSION", chart.version)
        assert chart.address in released
        assert _render(f"{released} --plain-http").replace(version, "0.1.0") == _render(folder)


def _commands(heading: str) -> list[str]:
    """Return each command of Helm below a heading of the page, in one line."""
    text = block("operations/registry.md", heading, "sh").replace("\\\n", "")
    return text.splitlines()


def _render(command: str) -> str:
    """Return what `helm template` prints for a command that begins `helm upgrade --install`."""
    words = shlex.split(command)
    assert words[:3] == ["helm", "upgrade", "--install"]
    ended = subprocess.run(
        [tool("helm"), "template", *words[3:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
