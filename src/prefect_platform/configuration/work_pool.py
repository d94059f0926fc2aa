"""The work pool, with the base job template that the worker's chart owns."""

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound


def apply_work_pool(
    client: SyncPrefectClient, name: str, template: dict[str, Any], concurrency_limit: int | None
) -> bool:
    """Create the Kubernetes pool `name` or give it `template`; True when anything changed.

    `concurrency_limit` is the number of its runs that may be under way at once, None without one.
    """
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type="kubernetes",
                base_job_template=template,
                concurrency_limit=concurrency_limit,
            )
        )
        return True
    if pool.base_job_template == template and pool.concurrency_limit == concurrency_limit:
        return False
    client.update_work_pool(
        name, WorkPoolUpdate(base_job_template=template, concurrency_limit=concurrency_limit)
    )
    return True
