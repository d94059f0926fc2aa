"""The Job that the installed worker creates from the rendered base job template."""

import asyncio
import json
import os
from functools import cache
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import prefect_kubernetes.worker  # type: ignore[import-untyped]
from kubernetes_asyncio.client import V1Job
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)
from prefect_kubernetes.worker import KubernetesWorker

from prefect_platform.worker.base_job_template import BaseJobTemplate
from prefect_platform.worker.job_configuration import ChartJobConfiguration
from tests.support.rendering import Object, Story, find, objects

AUTH_STRING = "admin:never-in-a-job"


def base_job_template(story: Story, pool: str = "default") -> dict[str, Any]:
    """Return the pool's template from the ConfigMap, as the configuration step reads it."""
    data = find(objects(story), "ConfigMap", "work-pool")["data"]
    template: dict[str, Any] = json.loads(data[f"{pool}.json"])
    return template


def created_job(
    story: Story, pool: str = "default", name: str = "quiet-otter", /, **job_variables: object
) -> Object:
    """Return the Job that a worker with the rendered environment sends to Kubernetes.

    `name` is that of the run. Two calls with the same arguments return the Job of the same run.
    Raises RefusedJobVariables.
    """
    job: Object = json.loads(_created(story, pool, name, json.dumps(job_variables)))
    return job


@cache
def _created(story: Story, pool: str, name: str, job_variables: str) -> str:
    # Tests change the Job that they get, so they share its text.
    sent: list[Object] = []
    template = base_job_template(story, pool)
    given = _environment(story, pool)

    class Recorder:
        def __init__(self, _client: object) -> None: ...

        async def create_namespaced_job(self, namespace: str, manifest: Object) -> V1Job:
            assert namespace == manifest["metadata"]["namespace"]
            sent.append(manifest)
            return V1Job()

    with (
        patch.dict(os.environ, _integration_settings(given)),
        patch.object(prefect_kubernetes.worker, "BatchV1Api", Recorder),
        patch.object(ChartJobConfiguration, "template", BaseJobTemplate(template), create=True),
        temporary_settings(
            {
                PREFECT_API_URL: given["PREFECT_API_URL"],
                PREFECT_API_AUTH_STRING: AUTH_STRING,
                PREFECT_HOME: "/tmp/prefect",  # noqa: S108 - a path in the pod
            }
        ),
    ):
        authority = given.get("PREFECT_API_SSL_CERT_FILE")
        asyncio.run(_submit(pool, name, template, json.loads(job_variables), authority))
    return json.dumps(sent[0])


async def _submit(
    pool_name: str,
    name: str,
    template: dict[str, Any],
    job_variables: dict[str, object],
    authority: str | None,
) -> None:
    flow = Flow(name="etl-daily", labels={})
    run = FlowRun(id=uuid4(), flow_id=flow.id, name=name, deployment_id=uuid4())
    pool = WorkPool(
        name=pool_name,
        type="kubernetes",
        base_job_template=template,
        default_queue_id=uuid4(),
    )
    configuration: ChartJobConfiguration = await ChartJobConfiguration.from_template_and_values(
        {}, job_variables
    )
    # Set only here, because each client of Prefect would read the file, which is in the pod.
    with temporary_settings({PREFECT_API_SSL_CERT_FILE: authority}):
        configuration.prepare_for_flow_run(run, flow=flow, work_pool=pool, worker_name="worker-0")
    await KubernetesWorker(work_pool_name=pool_name)._create_job(configuration, client=None)


def _environment(story: Story, pool: str) -> dict[str, str]:
    """Return the plain variables of the worker's pod."""
    worker = find(objects(story), "Deployment", "worker", pool=pool)
    variables = worker["spec"]["template"]["spec"]["containers"][0]["env"]
    return {each["name"]: each["value"] for each in variables if "value" in each}


def _integration_settings(given: dict[str, str]) -> dict[str, str]:
    """Return the variables that prefect-kubernetes reads."""
    return {
        name: value for name, value in given.items() if name.startswith("PREFECT_INTEGRATIONS_")
    }
