"""Every route of Prefect's API, and what a flow run may do with it.

A route that is in neither part is refused as well. A test compares both with the pinned Prefect, so
that each new route is decided by a person.
"""

from collections.abc import Mapping

from prefect_platform.run_identity import rules
from prefect_platform.run_identity.rules import Rule

OF_EVERYONE: Mapping[str, Rule] = {
    "GET /health": rules.anything,
    "GET /ready": rules.anything,
    "GET /hello": rules.anything,
    "GET /version": rules.anything,
    "GET /admin/version": rules.anything,
    # The client asks for it before its first change; the answer says that it is not needed.
    "GET /csrf-token": rules.anything,
}

ALLOWED: Mapping[str, Rule] = {
    **OF_EVERYONE,
    # Names the block where results are stored if the run names none.
    "GET /admin/storage": rules.anything,
    # A flow has a name, tags and labels, which say nothing of its runs. A subflow needs its own.
    "POST /flows/": rules.anything,
    "GET /flows/{id:uuid}": rules.anything,
    "GET /flow_runs/{id:uuid}": rules.own_flow_run,
    "PATCH /flow_runs/{id:uuid}": rules.change_of_own_flow_run,
    "PATCH /flow_runs/{id:uuid}/labels": rules.own_flow_run_in_pod,
    "POST /flow_runs/{id:uuid}/set_state": rules.state_of_own_flow_run,
    "POST /flow_runs/{id:uuid}/input": rules.own_flow_run_in_pod,
    "POST /flow_runs/{id:uuid}/input/filter": rules.own_flow_run,
    "GET /flow_runs/{id:uuid}/input/{key}": rules.own_flow_run,
    "DELETE /flow_runs/{id:uuid}/input/{key}": rules.own_flow_run_in_pod,
    "POST /flow_runs/": rules.new_subflow_run,
    "POST /flow_runs/filter": rules.own_flow_runs_only,
    "POST /task_runs/": rules.object_of_own_run,
    "POST /task_runs/filter": rules.own_flow_runs_only,
    "GET /task_runs/{id:uuid}": rules.own_task_run,
    "POST /logs/": rules.own_logs,
    "POST /logs/filter": rules.own_runs_in("logs"),
    "POST /artifacts/": rules.object_of_own_run,
    "POST /artifacts/filter": rules.own_runs_in("artifacts"),
    "GET /artifacts/{id:uuid}": rules.own_artifact,
    "PATCH /artifacts/{id:uuid}": rules.change_of_own_artifact,
    "POST /events": rules.own_events,
    "WEBSOCKET /events/in": rules.anything,  # each event is checked
    "WEBSOCKET /events/out": rules.anything,  # each event is checked
    "GET /deployments/{id:uuid}": rules.own_or_granted_deployment,
    "GET /deployments/name/{flow_name}/{deployment_name}": rules.granted_deployment_by_name,
    "POST /deployments/{id:uuid}/create_flow_run": rules.start_of_granted_deployment,
    # Events of the run name its pool and queue.
    "GET /work_pools/{name}": rules.own_work_pool,
    "GET /work_queues/{id:uuid}": rules.own_work_queue,
    "GET /variables/name/{name:str}": rules.granted_variable,
    "POST /variables/": rules.new_writable_variable,
    "PATCH /variables/name/{name:str}": rules.change_of_writable_variable,
    "DELETE /variables/name/{name:str}": rules.change_of_writable_variable,
    "GET /block_types/slug/{slug}/block_documents/name/{block_document_name}": rules.granted_block,
    "GET /block_documents/{id:uuid}": rules.granted_block_by_id,
    # Types and schemas of blocks are those of public packages.
    "GET /block_types/slug/{slug}": rules.anything,
    "GET /block_types/{id:uuid}": rules.anything,
    "GET /block_schemas/{id:uuid}": rules.anything,
    "GET /block_schemas/checksum/{checksum}": rules.anything,
    "POST /v2/concurrency_limits/increment": rules.granted_rates,
    "POST /v2/concurrency_limits/increment-with-lease": rules.granted_limits,
    # The id of a lease is random, and only who took the slots was told it.
    "POST /v2/concurrency_limits/decrement-with-lease": rules.anything,
    "POST /v2/concurrency_limits/leases/{lease_id}/renew": rules.anything,
}

DENIED = frozenset(
    line.strip()
    for line in """
    PATCH /flows/{id:uuid}
    POST /flows/count
    GET /flows/name/{name}
    POST /flows/filter
    DELETE /flows/{id:uuid}
    POST /flows/bulk_delete
    POST /flows/paginate
    POST /flow_runs/count
    POST /flow_runs/lateness
    POST /flow_runs/history
    GET /flow_runs/{id:uuid}/graph
    GET /flow_runs/{id:uuid}/graph-v2
    DELETE /flow_runs/{id:uuid}
    POST /flow_runs/bulk_delete
    POST /flow_runs/bulk_set_state
    POST /flow_runs/paginate
    GET /flow_runs/{id:uuid}/logs/download
    POST /flow_runs/{id:uuid}/resume
    PATCH /task_runs/{id:uuid}
    POST /task_runs/count
    POST /task_runs/history
    POST /task_runs/paginate
    DELETE /task_runs/{id:uuid}
    POST /task_runs/{id:uuid}/set_state
    WEBSOCKET /task_runs/subscriptions/scheduled
    GET /flow_run_states/{id:uuid}
    GET /flow_run_states/
    GET /task_run_states/{id:uuid}
    GET /task_run_states/
    GET /observed-states
    POST /deployments/
    PATCH /deployments/{id:uuid}
    POST /deployments/filter
    POST /deployments/paginate
    POST /deployments/get_scheduled_flow_runs
    POST /deployments/count
    DELETE /deployments/{id:uuid}
    POST /deployments/bulk_delete
    POST /deployments/{id:uuid}/schedule
    POST /deployments/{id:uuid}/resume_deployment
    POST /deployments/{id:uuid}/pause_deployment
    POST /deployments/{id:uuid}/create_flow_run/bulk
    GET /deployments/{id:uuid}/work_queue_check
    GET /deployments/{id:uuid}/schedules
    POST /deployments/{id:uuid}/schedules
    PATCH /deployments/{id:uuid}/schedules/{schedule_id:uuid}
    DELETE /deployments/{id:uuid}/schedules/{schedule_id:uuid}
    PUT /saved_searches/
    GET /saved_searches/{id:uuid}
    POST /saved_searches/filter
    DELETE /saved_searches/{id:uuid}
    WEBSOCKET /logs/out
    POST /concurrency_limits/
    GET /concurrency_limits/{id:uuid}
    GET /concurrency_limits/tag/{tag}
    POST /concurrency_limits/filter
    POST /concurrency_limits/tag/{tag}/reset
    DELETE /concurrency_limits/{id:uuid}
    DELETE /concurrency_limits/tag/{tag}
    POST /concurrency_limits/increment
    POST /concurrency_limits/decrement
    POST /v2/concurrency_limits/
    GET /v2/concurrency_limits/{id_or_name}
    POST /v2/concurrency_limits/filter
    PATCH /v2/concurrency_limits/{id_or_name}
    DELETE /v2/concurrency_limits/{id_or_name}
    POST /v2/concurrency_limits/decrement
    POST /block_types/
    POST /block_types/filter
    PATCH /block_types/{id:uuid}
    DELETE /block_types/{id:uuid}
    GET /block_types/slug/{slug}/block_documents
    POST /block_types/install_system_block_types
    POST /block_documents/
    POST /block_documents/filter
    POST /block_documents/count
    DELETE /block_documents/{id:uuid}
    PATCH /block_documents/{id:uuid}
    POST /work_pools/
    POST /work_pools/filter
    POST /work_pools/count
    PATCH /work_pools/{name}
    DELETE /work_pools/{name}
    POST /work_pools/{name}/concurrency_status
    POST /work_pools/{name}/get_scheduled_flow_runs
    POST /work_pools/{work_pool_name}/queues
    GET /work_pools/{work_pool_name}/queues/{name}
    POST /work_pools/{work_pool_name}/queues/filter
    PATCH /work_pools/{work_pool_name}/queues/{name}
    DELETE /work_pools/{work_pool_name}/queues/{name}
    WEBSOCKET /work_pools/{work_pool_name}/workers/connect
    POST /work_pools/{work_pool_name}/workers/heartbeat
    POST /work_pools/{work_pool_name}/workers/filter
    DELETE /work_pools/{work_pool_name}/workers/{name}
    POST /task_workers/filter
    POST /work_queues/
    PATCH /work_queues/{id:uuid}
    GET /work_queues/name/{name}
    POST /work_queues/{id:uuid}/get_runs
    POST /work_queues/filter
    DELETE /work_queues/{id:uuid}
    POST /work_queues/{id:uuid}/concurrency_status
    GET /work_queues/{id:uuid}/status
    GET /artifacts/{key}/latest
    POST /artifacts/latest/filter
    POST /artifacts/count
    POST /artifacts/latest/count
    DELETE /artifacts/{id:uuid}
    POST /block_schemas/
    DELETE /block_schemas/{id:uuid}
    POST /block_schemas/filter
    GET /block_capabilities/
    GET /collections/views/{view}
    GET /variables/{id:uuid}
    POST /variables/filter
    POST /variables/count
    PATCH /variables/{id:uuid}
    DELETE /variables/{id:uuid}
    POST /events/filter
    GET /events/filter/next
    POST /events/count-by/{countable}
    POST /automations/
    PUT /automations/{id:uuid}
    PATCH /automations/{id:uuid}
    DELETE /automations/{id:uuid}
    POST /automations/filter
    POST /automations/count
    GET /automations/{id:uuid}
    GET /automations/related-to/{resource_id:str}
    DELETE /automations/owned-by/{resource_id:str}
    POST /templates/validate
    POST /automations/templates/validate
    POST /ui/flows/count-deployments
    POST /ui/flows/next-runs
    POST /ui/flow_runs/history
    POST /ui/flow_runs/count-task-runs
    POST /ui/schemas/validate
    POST /ui/task_runs/dashboard/counts
    POST /ui/task_runs/count
    GET /ui/task_runs/{id:uuid}
    GET /admin/settings
    PUT /admin/storage
    DELETE /admin/storage
    GET /openapi.json
    HEAD /openapi.json
    GET /docs
    HEAD /docs
    GET /docs/oauth2-redirect
    HEAD /docs/oauth2-redirect
    GET /redoc
    HEAD /redoc
    """.splitlines()
    if line.strip()
)
