"""Push the charts to a registry, from which Helm and Argo CD install them.

The version of a chart ends with the first digits of a hash of its files, so that a version never
names two contents.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from prefect_platform.console import step
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.process import run
from prefect_platform_cli.images.remote import AbsentError, Registry, pushed_digest
from prefect_platform_cli.images.signature import Signer
from prefect_platform_cli.kube.clients import ensure_clients, program

CHARTS = tuple(REPOSITORY / "helm" / name for name in ("prefect-server", "prefect-worker"))


@dataclass(frozen=True)
class PushedChart:
    """A chart at `address`, which is oci://...; `is_new` if this push has brought it there."""

    address: str
    version: str
    is_new: bool


def push_charts(
    registry: Registry, charts: Sequence[Path] = CHARTS, signer: Signer | None = None
) -> list[PushedChart]:
    """Push those of the charts, which are folders, that `registry` lacks; raises PlatformError.

    With `signer`, they are signed, and the registry lacks each chart that is not.
    """
    ensure_clients(["helm"])
    pushed = []
    for chart in charts:
        version = _version(chart)
        name = f"charts/{chart.name}"
        is_new = not _is_pushed(registry, name, version, signer)
        if is_new:
            with step(f"Push {registry.address}/{name} {version}"):
                digest = _push(registry, chart, version)
            if signer is not None:
                signer.sign(registry, name, _tag(version), digest)
        pushed.append(PushedChart(f"oci://{registry.address}/charts/{chart.name}", version, is_new))
    return pushed


def _version(chart: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(path for path in chart.rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        content.update(f"{path.relative_to(chart)}\n{digest}\n".encode())
    declared = YAML(typ="safe").load(chart / "Chart.yaml")["version"]
    return f"{declared}+{content.hexdigest()[:12]}"


def _is_pushed(registry: Registry, name: str, version: str, signer: Signer | None) -> bool:
    try:
        digest = registry.digest(name, _tag(version))
    except AbsentError:
        return False
    return signer is None or signer.has_signed(registry, name, _tag(version), digest)


def _tag(version: str) -> str:
    """Return the tag that Helm gives to a version."""
    return version.replace("+", "_")


def _push(registry: Registry, chart: Path, version: str) -> str:
    """Push a chart, and return its digest."""
    with TemporaryDirectory() as folder:
        run(
            [program("helm"), "package", chart, f"--version={version}", f"--destination={folder}"],
            failure=f"{chart} cannot be packaged",
            next_step=f"helm lint {chart}",
        )
        printed = run(
            [
                *(program("helm"), "push", Path(folder, f"{chart.name}-{version}.tgz")),
                f"oci://{registry.address}/charts",
                *registry.access(),
            ],
            failure=f"{registry.address}/charts/{chart.name} cannot be pushed",
            next_step=f"check that your login to {registry.host} may push, then run the command "
            "again",
        )
    return pushed_digest(printed)
