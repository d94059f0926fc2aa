"""A private Docker engine for a machine without one, which leaves nothing behind.

After its processes have ended, one folder, one bridge, one control group in each hierarchy and the
kernel settings remain. `destroy` removes or restores them.
"""

import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from ipaddress import IPv4Network
from pathlib import Path

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while
from prefect_platform_cli.cluster.engine import cgroups, kernel_settings, runc_without_sys_resource
from prefect_platform_cli.cluster.engine.addresses import choose_pool, routed_networks
from prefect_platform_cli.cluster.engine.contained_process import ContainedProcess
from prefect_platform_cli.cluster.engine.engine import (
    EngineKind,
    EngineStatus,
    ask,
    checked_cluster_name,
    engine_environment,
    labels,
)
from prefect_platform_cli.cluster.engine.packages import (
    ensure_engine_programs,
    program,
    search_path,
)
from prefect_platform_cli.cluster.engine.records import write_atomically
from prefect_platform_cli.host.process import run, tail

_MACHINE = Path("/var/lib/prefect-platform")
_RECORD = "engine.json"
_SYS_RESOURCE = 24  # number of CAP_SYS_RESOURCE in linux/capability.h
# A bridge that Docker itself created, as Docker's database of networks records it.
_BRIDGE_OF_DOCKER = re.compile(rb'"BridgeIfaceCreator":1,"BridgeName":"([^"]+)"')
_STARTS_WITHIN = 60  # seconds
_GONE_AFTER_CHECKS = 5  # consecutive checks that find no process of the engine
_GONE_WITHIN = 30  # seconds
_LOG_BYTES = 4 << 20
_NEEDED_BYTES = 8 << 30  # for the node image, the node and the platform's images
_PASSED_ON = {"http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"}


@dataclass(frozen=True)
class _Record:
    """What must stay the same when the engine is started again."""

    pool: str  # range of addresses, such as 198.18.0.0/20


class PrivateEngine:
    """The private Docker engine of one cluster; needs root on Linux."""

    kind: EngineKind = "private"

    def __init__(self, cluster: str) -> None:
        self._cluster = checked_cluster_name(cluster)
        self._root = _MACHINE / cluster
        self._contained = ContainedProcess(self._root)
        self._group = f"/prefect-platform/{cluster}"
        self.bridge = f"pp-{sha256(cluster.encode()).hexdigest()[:8]}"

    @property
    def docker_host(self) -> str:
        """Address for DOCKER_HOST."""
        return f"unix://{self._root / 'docker.sock'}"

    @property
    def network(self) -> str:
        """Name of the Docker network that the nodes join."""
        return self._cluster

    @property
    def docker(self) -> Path:
        """The Docker command line client that came with the engine."""
        return program(self._programs, "docker")

    def environment(self) -> dict[str, str]:
        """Return the variables with which docker and kind use this engine and network."""
        return engine_environment(self.docker, self.docker_host, self.network)

    def exists(self) -> bool:
        """Return whether the engine exists, completely or in part."""
        return self._root.exists() or bool(self.processes())

    def processes(self) -> list[int]:
        """Return the ids of the engine's processes, except those of its containers."""
        return self._contained.members()

    def start(self) -> bool:
        """Start the engine and create its network where missing; True when anything changed.

        The engine outlives the calling process. Raises PlatformError with the last lines of its
        log when it does not answer in time.
        """
        with self._exclusive():
            record = self._prepare()
            started = self._ensure_running(record)
            return self._ensure_network(record) or started

    def destroy(self) -> None:
        """Remove the engine with its containers, volumes, images, network and files.

        Works whether the engine is running, crashed, partly created or gone.
        """
        with self._exclusive():
            self._contained.end()
            self._remove_bridges()
            self._remove_group()
            self._unmount()
            if self._others() == []:
                kernel_settings.restore(_settings_record())
            if self._root.exists():
                shutil.rmtree(self._root)

    def status(self) -> EngineStatus:
        """Return whether the engine answers, and its version."""
        answer = ask(self.docker_host)
        return EngineStatus(
            self.kind,
            running=answer.failure is None,
            version=answer.version,
            reason=answer.failure or self.docker_host,
        )

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Lock out other calls: all engines share the machine's addresses and kernel settings."""
        if os.geteuid() != 0:
            raise PlatformError(
                "only root can start or remove a private Docker engine",
                next_step="run the command again with sudo",
            )
        while True:
            _MACHINE.mkdir(mode=0o711, parents=True, exist_ok=True)
            try:
                folder = os.open(_MACHINE, os.O_RDONLY)
            except FileNotFoundError:  # another call has just removed it
                continue
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                # Another call may have removed the folder while this one waited for it.
                if os.fstat(folder).st_nlink == 0:
                    continue
                yield
                return
            finally:
                with suppress(OSError):  # it is not empty
                    _MACHINE.rmdir()
                os.close(folder)

    def _others(self) -> list[Path]:
        return [path for path in _MACHINE.iterdir() if path.is_dir() and path != self._root]

    # Starting

    def _ensure_running(self, record: _Record) -> bool:
        if self.processes():
            # An interrupted call may have started them, and the engine may not answer yet.
            if self._wait_until_it_answers() is None:
                return False
            self._contained.end()
        kernel_settings.record(_settings_record())
        with step("Start a private Docker engine"):
            self._launch(record)
            failure = self._wait_until_it_answers()
        if failure is not None:
            printed = tail(self._log.read_text(errors="replace"))
            self._contained.end()
            raise PlatformError(
                f"the private Docker engine does not answer ({failure}); its log ends: {printed}",
                next_step=f"read {self._log}, fix the cause, then run the command again",
            )
        return True

    def _prepare(self) -> _Record:
        """Fill the engine's folder, keeping what an earlier start left, and return its record."""
        if not self._programs.exists():
            self._require_space()
            source = ensure_engine_programs()
            self._root.mkdir(mode=0o711, exist_ok=True)
            half = self._root / "programs.half"
            # A copy, because the cache may be deleted while the engine runs.
            run(
                ["cp", "--archive", "--no-target-directory", source, half],
                failure=f"the Docker engine cannot be copied to {half}",
                next_step=f"check that the disk of {half} is not full, then run the command again",
            )
            half.rename(self._programs)
        record = self._record()
        if record is None:
            others = [found.pool for root in self._others() if (found := _read_record(root))]
            taken = [*routed_networks(), *map(IPv4Network, others)]
            record = _Record(str(choose_pool(self._cluster, taken)))
            write_atomically(self._root / _RECORD, json.dumps(asdict(record)))
        return record

    def _require_space(self) -> None:
        free = shutil.disk_usage(_MACHINE).free
        if free < _NEEDED_BYTES:
            raise PlatformError(
                f"a cluster needs {_NEEDED_BYTES >> 30} GiB in {_MACHINE}, "
                f"where {free / (1 << 30):.1f} GiB are free",
                next_step=f"free some space (df -h {_MACHINE}), then run the command again",
            )

    def _launch(self, record: _Record) -> None:
        path = [str(folder) for folder in search_path(self._programs)]
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.rename(self._log.with_suffix(".log.1"))
        self._contained.launch(
            ["docker-init", "--", "dockerd", *self._dockerd_options(record)],
            {
                "PATH": os.pathsep.join([*path, "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
                # As in Docker's own image. With it, dockerd loads no AppArmor profile.
                "container": "docker",
                **{name: os.environ[name] for name in os.environ if name.lower() in _PASSED_ON},
            },
            self._log,
        )

    def _dockerd_options(self, record: _Record) -> list[str]:
        proxy = program(self._programs, "docker-proxy")
        return [
            f"--data-root={self._root / 'docker'}",
            f"--host={self.docker_host}",
            # On btrfs and ZFS, Docker would choose drivers that leave volumes behind.
            "--storage-driver=overlay2",
            f"--userland-proxy-path={proxy}",
            f"--cgroup-parent={self._group}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            # Do not change the machine's firewall and forwarding.
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
            "--bridge=none",
            f"--default-address-pool=base={record.pool},size=24",
            "--log-level=warn",
            *("--log-opt=max-size=10m", "--log-opt=max-file=2"),
            *self._runtime_options(),
        ]

    def _runtime_options(self) -> list[str]:
        if _bounding_set() & 1 << _SYS_RESOURCE:
            return []
        wrapper = self._root / "runc-without-sys-resource"
        source = Path(runc_without_sys_resource.__file__).read_text()
        interpreter = Path(sys.executable).resolve()
        wrapper.write_text(f"#!{interpreter} -IS\n{source}")
        wrapper.chmod(0o755)
        name = "runc-without-sys-resource"
        return [f"--add-runtime={name}={wrapper}", f"--default-runtime={name}"]

    def _wait_until_it_answers(self) -> str | None:
        """Wait for the engine; return None when it answers in time, else why it does not."""

        checks_without_it = 0

        def failure() -> str | None:
            nonlocal checks_without_it
            # During exec a process briefly has no environment, so a single check may miss it.
            checks_without_it = 0 if self.processes() else checks_without_it + 1
            return ask(self.docker_host).failure if checks_without_it < _GONE_AFTER_CHECKS else None

        wait_while(failure, _STARTS_WITHIN)
        return ask(self.docker_host).failure

    def _ensure_network(self, record: _Record) -> bool:
        known = self._docker("network", "ls", "--format", "{{.Name}}").split()
        if self.network in known:
            return False
        subnet = next(IPv4Network(record.pool).subnets(new_prefix=24))
        named = [f"--label={key}={value}" for key, value in labels(self._cluster).items()]
        self._docker(
            *("network", "create", "--driver=bridge", f"--subnet={subnet}", *named),
            *(f"--opt=com.docker.network.bridge.name={self.bridge}", self.network),
        )
        return True

    # Removing

    def _remove_bridges(self) -> None:
        """Remove the bridges of all networks, including those that users made in this engine."""
        database = self._root / "docker" / "network" / "files" / "local-kv.db"
        known = _BRIDGE_OF_DOCKER.findall(database.read_bytes()) if database.exists() else []
        for bridge in {self.bridge, *(name.decode() for name in known)}:
            link = Path("/sys/class/net") / bridge
            if not link.exists():
                continue
            # The kernel removes the network namespaces of ended containers with a delay, and the
            # link of a container that crashed is left behind.
            for port in _ports(link):
                _delete_link(port)
            _delete_link(link)

    def _remove_group(self) -> None:
        def left() -> str:
            try:
                cgroups.remove(self._group)
            except OSError as error:
                return str(error)
            return ""

        if failure := wait_while(left, _GONE_WITHIN):
            raise PlatformError(
                f"the control group {self._group} cannot be removed: {failure}",
                next_step="end the processes in its cgroup.procs, then run the command again",
            )
        cgroups.remove_if_empty(str(Path(self._group).parent))

    def _unmount(self) -> None:
        """Unmount what others mounted below the folder, so that it is not deleted with it."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed(mounts):
            if Path(mount).is_relative_to(self._root):
                run(
                    ["umount", mount],
                    failure=f"{mount} cannot be unmounted",
                    next_step=f"umount {mount}, then run the command again",
                )

    # Reading the current state

    @property
    def _programs(self) -> Path:
        return self._root / "programs"

    @property
    def _log(self) -> Path:
        return self._root / "dockerd.log"

    def _record(self) -> _Record | None:
        return _read_record(self._root)

    def _docker(self, *arguments: str) -> str:
        return run(
            [self.docker, *arguments],
            failure=f"docker {arguments[0]} failed in the private Docker engine",
            next_step=f"read {self._log}",
            env={**os.environ, **self.environment()},
        )


def is_private(docker_host: str) -> bool:
    """Return whether `docker_host` is the address of any cluster's private engine."""
    return docker_host.startswith(f"unix://{_MACHINE}/")


def _ports(link: Path) -> list[Path]:
    """Return the ports of a bridge; none when it is gone."""
    folder = link / "brif"
    return [link.parent / port.name for port in folder.iterdir()] if folder.exists() else []


def _delete_link(link: Path) -> None:
    """Delete a network link, which the kernel may be removing at the same time."""
    try:
        run(
            ["ip", "link", "delete", link.name],
            failure=f"the network link {link.name} cannot be removed",
            next_step=f"ip link delete {link.name}, then run the command again",
        )
    except PlatformError:
        if link.exists():
            raise


def _settings_record() -> Path:
    return _MACHINE / "kernel-settings.json"


def _read_record(root: Path) -> _Record | None:
    path = root / _RECORD
    return _Record(**json.loads(path.read_text())) if path.exists() else None


def _bounding_set() -> int:
    status = Path("/proc/self/status").read_text()
    return int(
        next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16
    )
