"""The facts about flows that the build of an image records, so that its pods load no flow.

They apply only as long as the folder `flows` beside them is as it was when they were recorded.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from prefect_platform.configuration.deployments.entrypoints import (
    EntrypointError,
    FlowFacts,
    Load,
    named,
)
from prefect_platform.container import say

NAME = "flow-facts.json"
_FLOWS = "flows"


def record(directory: Path, entrypoints: Iterable[str], load: Load) -> str:
    """Return the facts about the flows below `flows` in `directory`, as the content of a file.

    Flows that cannot be loaded are left out: pods will try to load them.
    """
    facts = {}
    for entrypoint in entrypoints:
        if (directory / named(entrypoint)).resolve().is_relative_to(directory / _FLOWS):
            with suppress(EntrypointError):
                facts[entrypoint] = asdict(load(entrypoint))
    return json.dumps({"checksum": _checksum(directory), "facts": facts}, indent=1)


class RecordedFacts:
    """The facts in `file`; flows that it does not describe are loaded with `load`."""

    def __init__(self, file: Path, load: Load) -> None:
        self._load = load
        self._facts: dict[str, FlowFacts] = {}
        self._reason = f"{file} does not describe it"
        if not file.exists():
            self._reason = f"there is no {file}"
            return
        content = json.loads(file.read_text())
        if content["checksum"] != _checksum(file.parent):
            self._reason = f"{file} was recorded for other files in {_FLOWS}/"
            return
        self._facts = {at: FlowFacts(**facts) for at, facts in content["facts"].items()}

    def load(self, entrypoint: str) -> FlowFacts:
        """Return what is recorded, and else load the flow and say why."""
        if entrypoint not in self._facts:
            say(f"Loading {named(entrypoint)}: {self._reason}")
            return self._load(entrypoint)
        return self._facts[entrypoint]

    def verified(self, entrypoint: str) -> FlowFacts:
        """Load the flow and return its facts; raises EntrypointError if others are recorded."""
        loaded = self._load(entrypoint)
        recorded = asdict(self._facts.get(entrypoint, loaded))
        for fact, value in asdict(loaded).items():
            if recorded[fact] != value:
                raise EntrypointError(
                    f"the {fact.replace('_', ' ')} of {named(entrypoint)} changes between imports",
                    "compute in the flow what depends on the time, the user or the machine",
                )
        return loaded


def _checksum(directory: Path) -> str:
    """Return a checksum of the names and the contents of the flows' files, without byte code."""
    content = hashlib.sha256()
    for path in sorted((directory / _FLOWS).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            content.update(f"{path.relative_to(directory)}\n{digest}\n".encode())
    return content.hexdigest()
