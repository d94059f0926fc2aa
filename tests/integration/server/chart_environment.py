"""The environment that the chart gives to the API, for a server on loopback."""

from pathlib import Path

from tests.support import servers
from tests.support.rendering import Object

_NOT_HERE = ("PREFECT_HOME", "PREFECT_SERVER_DATABASE_", "RUN_IDENTITY_AUDIENCE")


def environment(container: Object, folder: Path, **more: str) -> dict[str, str]:
    """Return the chart's plain variables, with a database and directories of this test.

    Run identity is off, because no Kubernetes is there to review tokens.
    """
    rendered = {
        variable["name"]: variable["value"]
        for variable in container["env"]
        if "value" in variable and not variable["name"].startswith(_NOT_HERE)
    }
    assert "PREFECT_SERVER_UI_STATIC_DIRECTORY" in rendered
    rendered["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(folder / "ui")
    rendered["CONCURRENCY_LEASE_FILE"] = str(folder / "leases.db")
    return servers.clean_environment(folder, **rendered, **more)
