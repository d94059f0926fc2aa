"""Write the configuration of a server as a platform.yaml that `apply` can recreate it from."""

import io
from collections.abc import Iterable

from ruamel.yaml import YAML

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.resource import FileSection, Inventory
from prefect_platform.configuration.reconcile.ledger import Ledger


def export(
    sections: Iterable[FileSection], inventory: Inventory, ledger: Ledger, context: Context
) -> str:
    """Return the text of the file, without defaults, with names for ids and references for secrets.

    A secret that no file has declared gets a reference that `apply` refuses until it is replaced by
    the real one. Deployments are not exported, because they belong in prefect.yaml.
    """
    file = {each.section: each.export(inventory, ledger.secrets, context) for each in sections}
    # The automations of the pack are exported with the others.
    file["alerts"] = {"enabled": False}
    written = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.dump({name: section for name, section in file.items() if section}, written)
    return written.getvalue()
