"""A Docker engine of our own, on a machine without one, that leaves nothing behind.

The engine runs in a process and a mount namespace of its own: when the first process of the
former ends, however it ends, the kernel ends every other one, and with the last process all
mounts and network namespaces of containers are gone. What remains to be removed are files in one
folder, one bridge, one control group, and kernel settings.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from ipaddress import IPv4Network
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from prefect_platform.cluster import (
    cgroups,
    kernel_settings,
    runc_without_sys_resource,
)
from prefect_platform.cluster.engine import (
    EngineKind,
    EngineStatus,
    checked_cluster_name,
    engine_environment,
    labels,
    ping,
)
from prefect_platform.cluster.engine_addresses import choose_pool, routed_networks
from prefect_platform.cluster.engine_packages import (
    ensure_engine_programs,
    program,
    search_path,
)
from prefect_platform.cluster.records import write_atomically
from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform.process import run, tail

_MACHINE = Path("/var/lib/prefect-platform")
_RECORD = "engine.json"
_MARK = "PREFECT_PLATFORM_ENGINE"
_SYS_RESOURCE = 24  # number of CAP_SYS_RESOURCE in linux/capability.h
_STARTS_WITHIN = 60  # seconds
_ENDS_WITHIN = 30  # seconds
_LOG_BYTES = 4 << 20
_T = TypeVar("_T")

# What dockerd and containerd write to fixed places of the machine stays in their own mounts: /run
# is theirs alone, but for the name resolver's files, and /opt is read-only.
_ENTER = """
mount -n --bind /run "$1"
mount -n -t tmpfs -o mode=755 tmpfs /run
for name in systemd resolvconf NetworkManager; do ln -s "$1/$name" /run/; done
if [ -d /opt ]; then mount -n --bind /opt /opt; mount -n -o remount,bind,ro /opt; fi
ulimit -n "$(ulimit -Hn)"
shift
exec "$@"
"""


@dataclass(frozen=True)
class _Record:
    """What must stay the same from one start of the engine to the next."""

    pool: str  # addresses, as 198.18.0.0/20


class PrivateEngine:
    """The private Docker engine of one cluster; needs root on Linux."""

    kind: EngineKind = "private"

    def __init__(self, cluster: str) -> None:
        self._cluster = checked_cluster_name(cluster)
        self._root = _MACHINE / cluster
        self._group = f"/prefect-platform/{cluster}"
        self._bridge = f"pp-{sha256(cluster.encode()).hexdigest()[:8]}"

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
        """Return whether `start` was ever called and `destroy` not finished since."""
        return (self._root / _RECORD).exists()

    def start(self) -> bool:
        """Start the engine when it does not run and make its network; True when that did anything.

        The engine outlives the calling process. Raises PlatformError with the last lines of its
        log when it does not answer in time.
        """
        with self._exclusive():
            record = self._prepare()
            started = self._ensure_running(record)
            return self._ensure_network(record) or started

    def destroy(self) -> None:
        """Remove the engine with its containers, volumes, images, network and files.

        Works from any state: running, crashed, half made, or gone.
        """
        with self._exclusive():
            self._end()
            self._remove_bridge()
            self._remove_group()
            self._unmount()
            if self._others() == []:
                kernel_settings.restore(_settings_record())
            if self._root.exists():
                shutil.rmtree(self._root)
            if not any(_MACHINE.iterdir()):
                _MACHINE.rmdir()

    def status(self) -> EngineStatus:
        """Return whether the engine answers, and its version."""
        failure = ping(self.docker_host) if self.exists() else "it was never started"
        if failure is not None:
            return EngineStatus(self.kind, running=False, version="", reason=failure)
        version = self._docker("version", "--format", "{{.Server.Version}}").strip()
        return EngineStatus(self.kind, running=True, version=version, reason=self.docker_host)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the machine's engines alone: addresses and kernel settings are shared by all."""
        if os.geteuid() != 0:
            raise PlatformError(
                "a private Docker engine can only be handled by root",
                next_step="run it again with sudo",
            )
        while True:
            _MACHINE.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder = os.open(_MACHINE, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                # Another call may have removed the folder while this one waited for it.
                if os.fstat(folder).st_nlink == 0:
                    continue
                yield
                return
            finally:
                os.close(folder)

    def _others(self) -> list[Path]:
        return [path for path in _MACHINE.iterdir() if path.is_dir() and path != self._root]

    # Start

    def _ensure_running(self, record: _Record) -> bool:
        if self.processes():
            # Also one that an interrupted call started, which may need some seconds more.
            if self._wait_until_it_answers() is None:
                return False
            self._end()
        kernel_settings.record(_settings_record())
        with step("Start a private Docker engine"):
            self._launch(record)
            failure = self._wait_until_it_answers()
        if failure is not None:
            printed = tail(self._log.read_text(errors="replace"))
            self._end()
            raise PlatformError(
                f"the private Docker engine does not answer ({failure}); its log ends: {printed}",
                next_step=f"read {self._log}, repair the cause and run it again",
            )
        return True

    def _prepare(self) -> _Record:
        """Fill the engine's folder and return its record; what an earlier start left is kept."""
        self._root.mkdir(mode=0o711, exist_ok=True)
        (self._root / "machine-run").mkdir(mode=0o700, exist_ok=True)
        if not self._programs.exists():
            half = self._root / "programs.half"
            # A copy, because the cache may be deleted while the engine runs.
            run(
                ["cp", "--archive", "--no-target-directory", ensure_engine_programs(), half],
                failure=f"the Docker engine cannot be copied to {half}",
                next_step=f"check that the disk of {half} is not full, then run it again",
            )
            half.rename(self._programs)
        record = self._record()
        if record is None:
            others = [found.pool for root in self._others() if (found := _read_record(root))]
            taken = [*routed_networks(), *map(IPv4Network, others)]
            record = _Record(str(choose_pool(self._cluster, taken)))
            write_atomically(self._root / _RECORD, json.dumps(asdict(record)))
        return record

    def _launch(self, record: _Record) -> None:
        path = [str(folder) for folder in search_path(self._programs)]
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.rename(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            subprocess.run(
                [
                    # A session of its own keeps Ctrl-C in the user's terminal from the engine.
                    *("setsid", "--fork", "unshare", "--mount", "--propagation=slave", "--pid"),
                    *("--fork", "--kill-child", "--mount-proc", "sh", "-ec", _ENTER, "sh"),
                    *(self._root / "machine-run", "docker-init", "--"),
                    *("dockerd", *self._dockerd_options(record)),
                ],
                env={
                    "PATH": os.pathsep.join([*path, "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
                    _MARK: str(self._root),
                    # As in Docker's own image: keeps its AppArmor profile out of the kernel.
                    "container": "docker",
                    **{name: value for name, value in os.environ.items() if _is_proxy(name)},
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                check=True,
            )

    def _dockerd_options(self, record: _Record) -> list[str]:
        proxy = program(self._programs, "docker-proxy")
        return [
            f"--data-root={self._root / 'docker'}",
            f"--host={self.docker_host}",
            f"--userland-proxy-path={proxy}",
            f"--cgroup-parent={self._group}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            # The machine's firewall and forwarding stay as they are.
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
        """Return None when the engine answers, or why it does not after a bounded wait."""

        def failure() -> str | None:
            return ping(self.docker_host) if self.processes() else None

        _poll(failure, _STARTS_WITHIN)
        return ping(self.docker_host)

    def _ensure_network(self, record: _Record) -> bool:
        known = self._docker("network", "ls", "--format", "{{.Name}}").split()
        if self.network in known:
            return False
        subnet = next(IPv4Network(record.pool).subnets(new_prefix=24))
        named = [f"--label={key}={value}" for key, value in labels(self._cluster).items()]
        self._docker(
            *("network", "create", "--driver=bridge", f"--subnet={subnet}", *named),
            *(f"--opt=com.docker.network.bridge.name={self._bridge}", self.network),
        )
        return True

    # End

    def _end(self) -> None:
        """End every process of the engine and of its containers."""

        def left() -> list[int]:
            pids = self.processes()
            with ExitStack() as handles:
                ended = [_kill(pid, self._is_ours, handles) for pid in pids]
                for handle in ended:
                    if handle is not None:
                        select.select([handle], [], [], _ENDS_WITHIN)
            return self.processes()

        if remaining := _poll(left, _ENDS_WITHIN):
            raise PlatformError(
                f"the engine's processes {remaining} do not end",
                next_step=f"see `ps -fp {remaining[0]}`, then run it again",
            )

    def _remove_bridge(self) -> None:
        link = Path("/sys/class/net") / self._bridge
        if not link.exists():
            return

        def ports() -> list[str]:
            # The kernel takes apart the network namespaces of ended containers on its own time.
            folder = link / "brif"
            return [port.name for port in folder.iterdir()] if folder.exists() else []

        _poll(ports, _ENDS_WITHIN)
        run(
            ["ip", "link", "delete", self._bridge],
            failure=f"the network bridge {self._bridge} cannot be removed",
            next_step=f"ip link delete {self._bridge}, then run it again",
        )

    def _remove_group(self) -> None:
        def left() -> str:
            try:
                cgroups.remove(self._group)
            except OSError as error:
                return str(error)
            return ""

        if failure := _poll(left, _ENDS_WITHIN):
            raise PlatformError(
                f"the control group {self._group} cannot be removed: {failure}",
                next_step="end the processes in its cgroup.procs, then run it again",
            )
        cgroups.remove_if_empty(str(Path(self._group).parent))

    def _unmount(self) -> None:
        """Unmount what others mounted below our folder, so that deleting never follows into it."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed(mounts):
            if Path(mount).is_relative_to(self._root):
                run(
                    ["umount", mount],
                    failure=f"{mount} cannot be unmounted",
                    next_step=f"umount {mount}, then run it again",
                )

    # What is there

    @property
    def _programs(self) -> Path:
        return self._root / "programs"

    @property
    def _log(self) -> Path:
        return self._root / "dockerd.log"

    def _record(self) -> _Record | None:
        return _read_record(self._root)

    def processes(self) -> list[int]:
        """Return the ids of the engine's processes, those of containers aside."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and self._is_ours(int(entry.name))
        ]

    def _is_ours(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # it ended meanwhile
            return False
        return f"{_MARK}={self._root}".encode() in environment.split(b"\0")

    def _docker(self, *arguments: str) -> str:
        return run(
            [self.docker, *arguments],
            failure="the private Docker engine refuses a command",
            next_step=f"read {self._log}",
            env={**os.environ, **self.environment()},
        )


def is_private(docker_host: str) -> bool:
    """Return whether `docker_host` is the address of a private engine, of whichever cluster."""
    return docker_host.startswith(f"unix://{_MACHINE}/")


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


def _is_proxy(name: str) -> bool:
    return name.lower() in {"http_proxy", "https_proxy", "no_proxy"}


def _kill(pid: int, is_ours: Callable[[int], bool], handles: ExitStack) -> int | None:
    """Kill `pid` and return a handle that is readable when it ended; None when it has already.

    The handle is taken before the check, so that a reused id is never hit.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    handles.callback(os.close, handle)
    if not is_ours(pid):
        return None
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    return handle


def _poll(probe: Callable[[], _T], seconds: float) -> _T:
    """Return the first false result of `probe`, or its last one when `seconds` have passed."""
    return Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(probe)
