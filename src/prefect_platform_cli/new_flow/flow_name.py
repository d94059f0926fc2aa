"""The name of a new flow, as Python and as Prefect write it."""

import importlib.util
import keyword
import re
from dataclasses import dataclass

from prefect_platform.errors import PlatformError

_LONGEST = 63  # characters of an identifier in PostgreSQL, and of a label in Kubernetes
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_TAKEN = ("bench", "flows", "lib", "tests")  # folders that are imported like modules


@dataclass(frozen=True)
class FlowName:
    """The same name as `module`, such as load_orders, and as `kebab`, such as load-orders."""

    module: str

    @property
    def kebab(self) -> str:
        return self.module.replace("_", "-")


def parse(text: str) -> FlowName:
    """Return the name that `text` gives in either form.

    Raises PlatformError when it is not a name.
    """
    module = text.replace("-", "_")
    if not _NAME.fullmatch(text) or len(text) > _LONGEST or keyword.iskeyword(module):
        raise PlatformError(
            f"{text!r} cannot be the name of a flow: use lower-case letters, digits and single"
            f" hyphens, start with a letter, use at most {_LONGEST} characters, and do not use a"
            " Python keyword",
            next_step=".venv/bin/prefect-platform new load-orders --template incremental-load",
        )
    return FlowName(module)


def refuse_hidden(flow: FlowName) -> None:
    """Raise PlatformError if the file of `flow` would hide a module."""
    if flow.module in _TAKEN or importlib.util.find_spec(flow.module) is not None:
        raise PlatformError(
            f"flows/{flow.module}.py would hide the module {flow.module}, which others import",
            next_step=f".venv/bin/prefect-platform new {flow.kebab}-flow --template TEMPLATE",
        )
