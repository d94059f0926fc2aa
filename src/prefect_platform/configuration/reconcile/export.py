"""A running server as a platform.yaml: what `apply` would need to make another one like it."""

import io
from collections.abc import Iterable

from ruamel.yaml import YAML

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.resource import FileSection, Inventory
from prefect_platform.configuration.reconcile.ledger import Ledger


def export(
    sections: Iterable[FileSection], inventory: Inventory, ledger: Ledger, context: Context
) -> str:
    """Return the file. Defaults are left out, names stand for ids, references for secrets.

    `apply` refuses a secret that no file has declared until somebody names the real one.
    Deployments are not in it: prefect.yaml has them.
    """
    file = {each.section: each.export(inventory, ledger.secrets, context) for each in sections}
    # The pack's automations are among the others.
    file["alerts"] = {"enabled": False}
    written = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.dump({name: section for name, section in file.items() if section}, written)
    return written.getvalue()
