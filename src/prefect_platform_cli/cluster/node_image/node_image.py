"""A node image for kind, built from Debian packages and our own build of Kubernetes.

It provides what kind expects of a node image: /kind/version, an entrypoint that starts systemd,
kubeadm and the related programs on PATH, and containerd's socket at its standard path. It contains
the images of Kubernetes' own components, so that nothing is pulled.
"""

import hashlib
import tempfile
import zipapp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.console import step
from prefect_platform_cli.cluster.node_image import image_archive
from prefect_platform_cli.cluster.node_image.image_archive import (
    SEARCH_PATH,
    ImageConfig,
    write_archive,
    write_layer,
)
from prefect_platform_cli.host.debian import ensure_packages
from prefect_platform_cli.host.paths import REPOSITORY, cache_directory
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import TOOLS, ensure_tools, fingerprint, version

_SOURCE = REPOSITORY / "k8s" / "kind" / "node-image"
_NETWORK_POLICY = REPOSITORY / "network-policy-agent" / "network_policy"
_SUITE = "bookworm"  # newer releases' systemd has no cgroup v1, which some machines still use

_NODE_PACKAGES = [
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "libseccomp2",
    "mount",
    "nftables",
    "openssl",
    "procps",
    "python3",  # runs the agent that enforces NetworkPolicies
    "socat",
    "systemd",
    "systemd-sysv",
    "util-linux",
]
_NODE_PROGRAMS = [
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "kubeadm",
    "kubectl",
    "kubelet",
    "runc",
]
# netbase contains /etc/protocols. Without that file nft prints protocols as numbers, and kube-proxy
# mistakes its own entries for stale ones at every restart and once an hour.
_TOOLS_PACKAGES = ["busybox", "iproute2", "netbase", "nftables", "python3"]
_COMMANDS = ("cat", "httpd", "mkdir", "nslookup", "rm", "sh", "sleep", "wget")
_SHELL = {f"bin/{name}": "busybox" for name in _COMMANDS}
# A node has no consoles, and must not load modules into the machine's kernel or change the kernel's
# settings.
_MASKED_UNITS = [
    "getty.target",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
]


@dataclass(frozen=True)
class NodeImage:
    """A node image: its reference in an engine, and the archive to load it from."""

    reference: str
    archive: Path


@dataclass(frozen=True)
class _Component:
    """An image that runs in the cluster: `program`, alone or on top of the tools layer."""

    reference: str
    program: str
    with_tools: bool = False


_COMPONENTS = [
    *(
        _Component(f"registry.k8s.io/{name}:{version('kubelet')}", name)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
    _Component(f"registry.k8s.io/kube-proxy:{version('kubelet')}", "kube-proxy", with_tools=True),
    # The names of these three images are constants in the pinned kubeadm.
    _Component("registry.k8s.io/etcd:3.6.8-0", "etcd"),
    _Component("registry.k8s.io/coredns/coredns:v1.14.2", "coredns"),
    _Component("registry.k8s.io/pause:3.10.2", "pause"),
    _Component("registry.k8s.io/metrics-server/metrics-server:v0.9.0", "metrics-server"),
    _Component("docker.io/rancher/local-path-provisioner:v0.0.30", "local-path-provisioner"),
    _Component("prefect-platform.local/node-tools:v1", "", with_tools=True),
    _Component("prefect-platform.local/network-policy:v1", "network-policy", with_tools=True),
]


def node_image() -> NodeImage:
    """Return this repository's node image, and build what the cache does not have."""
    tag = f"{version('kubelet')}-{_fingerprint()}"
    reference = f"prefect-platform.local/node:{tag}"
    archive = cache_directory() / "node-images" / f"{tag}.tar"
    if not archive.exists():
        ensure_packages("mmdebstrap", "gcc", "libc6-dev", "libseccomp-dev", "pkg-config", "zstd")
        programs = ensure_tools(_programs())
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            step(f"Assemble the node image of Kubernetes {version('kubelet')}"),
            tempfile.TemporaryDirectory(dir=archive.parent, prefix=".assembling-") as folder,
        ):
            _assemble(Path(folder), reference, programs).rename(archive)
    return NodeImage(reference, archive)


def _programs() -> list[str]:
    """Return the names of all tools that the image holds."""
    return sorted({*_NODE_PROGRAMS, *(c.program for c in _COMPONENTS if c.program in TOOLS)})


def _fingerprint() -> str:
    """Return a checksum of everything that goes into the image, except Debian's updates."""
    code = [Path(__file__), Path(image_archive.__file__)]
    contents = (*_SOURCE.rglob("*"), *_NETWORK_POLICY.glob("*"))
    sources = [path for path in contents if path.is_file()]
    programs = [(name, fingerprint(TOOLS[name])) for name in _programs()]
    digest = hashlib.sha256(repr(programs).encode())
    for path in sorted([*code, *sources]):
        executable = path.stat().st_mode & 0o100
        digest.update(f"{path.relative_to(REPOSITORY)}:{executable}:".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _assemble(folder: Path, reference: str, programs: dict[str, Path]) -> Path:
    """Write the node image's archive below `folder` and return its path."""
    programs["pause"] = _compile_pause(folder / "pause")
    programs["network-policy"] = _pack_agent(folder / "network-policy")
    tools = _debian(folder / "tools.tar", _TOOLS_PACKAGES, variant="extract")
    files: dict[str, Path | str] = {
        f"usr/local/bin/{name}": programs[name] for name in _NODE_PROGRAMS
    }
    for path in (_SOURCE / "rootfs").rglob("*"):
        if path.is_file():
            files[str(path.relative_to(_SOURCE / "rootfs"))] = path
    files["etc/network-policy/base.nft"] = _NETWORK_POLICY / "base.nft"
    files["usr/lib/cni/network-policy"] = _NETWORK_POLICY / "cni_plugin.py"
    for component in _COMPONENTS:
        name = component.program or "node-tools"
        files[f"kind/images/{name}.tar"] = _component(folder, component, programs, tools)
    (folder / "version").write_text(version("kubelet"))
    files["kind/version"] = folder / "version"
    # These units are not in multi-user.target: kind waits only 30 s for that target, and importing
    # the images takes longer.
    for unit in ("containerd", "import-images", "kubelet"):
        wanted = f"etc/systemd/system/default.target.wants/{unit}.service"
        files[wanted] = f"/etc/systemd/system/{unit}.service"
    for unit in _MASKED_UNITS:
        files[f"etc/systemd/system/{unit}"] = "/dev/null"
    write_layer(folder / "node.layer", files)
    write_archive(
        folder / "node.tar",
        reference,
        [
            _debian(folder / "debian.tar", _NODE_PACKAGES, variant="essential"),
            folder / "node.layer",
        ],
        ImageConfig(
            entrypoint=["/usr/local/bin/entrypoint"],
            environment=[SEARCH_PATH, "container=docker"],
            stop_signal="SIGRTMIN+3",  # asks systemd to shut down
        ),
    )
    return folder / "node.tar"


def _component(folder: Path, component: _Component, programs: dict[str, Path], tools: Path) -> Path:
    name = component.program or "node-tools"
    installed = f"/usr/local/bin/{name}"
    files: dict[str, Path | str] = dict(_SHELL) if component.with_tools else {}
    if component.program:
        files[installed.lstrip("/")] = programs[component.program]
    write_layer(folder / f"{name}.layer", files)
    layers = [*([tools] if component.with_tools else []), folder / f"{name}.layer"]
    entrypoint = [installed] if component.program else []
    write_archive(
        folder / f"{name}.tar",
        component.reference,
        layers,
        ImageConfig(entrypoint),
        compressed=True,
    )
    return folder / f"{name}.tar"


def _compile_pause(binary: Path) -> Path:
    run(
        ["gcc", "-Os", "-static", "-s", "-o", binary, _SOURCE / "pause.c"],
        failure="the pause program does not compile",
        next_step="check that gcc and libc6-dev are installed",
    )
    return binary


def _pack_agent(program: Path) -> Path:
    """Pack the agent that enforces NetworkPolicies into one Python program, with its rules."""
    zipapp.create_archive(
        _NETWORK_POLICY.parent,
        program,
        interpreter="/usr/bin/python3",
        main="network_policy.agent:main",
        filter=lambda path: path.parent.name == _NETWORK_POLICY.name,
    )
    return program


def _debian(path: Path, packages: Sequence[str], *, variant: str) -> Path:
    """Write a Debian root file system with `packages` to the tar file `path`."""
    run(
        [
            *("mmdebstrap", f"--variant={variant}", f"--include={','.join(packages)}"),
            *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
            *("--dpkgopt=path-exclude=/usr/share/locale/*", _SUITE, path),
        ],
        failure=f"Debian's {_SUITE} packages for the node image cannot be installed",
        next_step="check that Debian's package archive is reachable",
    )
    return path
