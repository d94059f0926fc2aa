"""Run all tasks of Prefect's own vacuum once, with the settings of the environment.

Start it with `python -m tests.integration.server.vacuum`. It is a separate program because Prefect
reads its settings and creates its database engine once per process.
"""

import asyncio

from prefect.server.database import provide_database_interface
from prefect.server.services import db_vacuum
from prefect.settings.context import get_current_settings

# The tasks that each type of vacuum adds to the docket, in this order.
TASKS = {
    "flow_runs": [db_vacuum.vacuum_old_flow_runs],
    "events": [db_vacuum.vacuum_events_with_retention_overrides, db_vacuum.vacuum_old_events],
    "orphans": [
        db_vacuum.vacuum_orphaned_logs,
        db_vacuum.vacuum_orphaned_artifacts,
        db_vacuum.vacuum_stale_artifact_collections,
    ],
}


async def vacuum() -> None:
    """Run the tasks of the types that are enabled."""
    enabled = get_current_settings().server.services.db_vacuum.enabled_vacuum_types
    for kind, tasks in TASKS.items():
        for task in tasks if kind in enabled else []:
            await task(db=provide_database_interface())


if __name__ == "__main__":
    asyncio.run(vacuum())
