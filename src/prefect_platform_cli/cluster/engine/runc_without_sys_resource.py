"""runc for machines without CAP_SYS_RESOURCE: drop that capability, then run the real runc.

Docker requests every capability for a privileged container, and runc fails if the machine does not
grant one of them. The engine runs this file outside the package, so it may import the standard
library only.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

_WITHHELD = "CAP_SYS_RESOURCE"


def _value(arguments: list[str], *flags: str) -> str | None:
    """Return the value of the first of `flags`, written as `--flag value` or `--flag=value`."""
    for position, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name in flags:
            return value if separator else arguments[position + 1]
    return None


def _drop(process: dict[str, Any]) -> None:
    sets = process.get("capabilities") or {}
    for name, capabilities in sets.items():
        sets[name] = [each for each in capabilities or [] if each != _WITHHELD]


def _rewrite(path: Path, key: str | None) -> None:
    document = json.loads(path.read_text())
    _drop(document[key] if key else document)
    path.write_text(json.dumps(document))


def main(arguments: list[str]) -> None:
    """Rewrite the OCI bundle or process that `arguments` names, then become runc."""
    if "create" in arguments or "run" in arguments:
        _rewrite(Path(_value(arguments, "--bundle", "-b") or ".") / "config.json", "process")
    elif "exec" in arguments and (process := _value(arguments, "--process", "-p")):
        _rewrite(Path(process), None)
    os.execvp("runc", ["runc", *arguments])  # noqa: S606 # the engine's PATH has its runc first


if __name__ == "__main__":
    main(sys.argv[1:])
