"""Run an image's program as in a hardened pod: its user, its environment and a read-only root.

The image is in a buildah store, so this needs no engine.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_platform_cli.images.hardened import ALONE, hardened


@dataclass(frozen=True)
class Store:
    """A buildah store below `folder`; the mounts of each command disappear when it ends."""

    folder: Path

    @property
    def command(self) -> list[str]:
        """The command line of buildah for this store, without a subcommand."""
        return [
            *("buildah", "--storage-driver", "overlay"),
            *("--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")),
        ]

    def buildah(self, *arguments: str) -> str:
        """Run buildah and return what it prints."""
        return subprocess.run(
            [*ALONE, *self.command, *arguments], check=True, capture_output=True, text=True
        ).stdout

    def load(self, archive: Path, reference: str) -> None:
        """Unpack one image of an archive, as a node does."""
        loaded = self.buildah("pull", "--quiet", f"oci-archive:{archive}:{reference}").strip()
        self.buildah("tag", loaded, reference)


@dataclass(frozen=True)
class Contained:
    """One image in a store."""

    reference: str
    store: Store

    @property
    def config(self) -> dict[str, Any]:
        """The image's configuration: User, Env, Cmd, Labels and others."""
        inspected = self.store.buildah("inspect", "--type", "image", self.reference)
        image: dict[str, Any] = json.loads(inspected)["OCIv1"]
        config: dict[str, Any] = image["config"]
        return {**config, "DiffIds": image["rootfs"]["diff_ids"], "History": image["history"]}

    def run(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, Path] | None = None,
        user: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` until it ends, with an empty and writable /tmp."""
        with self.started(
            *command, environment=environment, volumes=volumes, user=user, merged=False
        ) as running:
            out, err = running.process.communicate()
            return subprocess.CompletedProcess(command, running.process.returncode, out, err)

    @contextmanager
    def started(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, Path] | None = None,
        user: str | None = None,
        merged: bool = True,
    ) -> Iterator["Running"]:
        """Start the entrypoint with `command`, and kill it at the end of the block.

        With `merged`, standard error goes to standard output.
        """
        config = self.config
        arguments = [*config.get("Entrypoint", []), *(command or config.get("Cmd", []))]
        variables = [f"{key}={value}" for key, value in (environment or {}).items()]
        created = self.store.buildah("from", "--pull-never", self.reference).strip()
        process = subprocess.Popen(
            hardened(
                self.store.command,
                created,
                config,
                [*variables, *arguments],
                network=True,
                volumes=volumes,
                user=user,
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
        )
        running = Running(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                running.stop(signal.SIGKILL)
            process.communicate()
            self.store.buildah("rm", created)


@dataclass
class Running:
    """A program that was started from an image."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_for(self, text: str) -> None:
        """Read the output of the program until a line contains `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError(f"the program ended without printing {text!r}: {''.join(self.lines)}")

    def stop(self, number: signal.Signals) -> int:
        """Send a signal to the program, and return the exit code."""
        # Not to `unshare`: its end would not end the child, which has changed its user.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            os.kill(int(child), number)
        return self.process.wait()
