"""Run a deployment once with the flows as they are in the repository, without deploying them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_platform.api_failures import detail
from prefect_platform.configuration.core import source
from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.prefect_api import pages
from prefect_platform.configuration.core.resource import Declared, Found, Inventory
from prefect_platform.configuration.core.unloaded import UnloadedFlowsError
from prefect_platform.configuration.deployments import prefect_yaml
from prefect_platform.configuration.deployments.deployment_resources import Deployments
from prefect_platform.configuration.deployments.entrypoints import EntrypointError, FlowFacts
from prefect_platform.configuration.deployments.flow_loader import FlowLoader
from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.image_store import ImageStore
from prefect_platform_cli.deploy.edited_image import bring, discard_superseded
from prefect_platform_cli.host.paths import REPOSITORY, cache_directory
from prefect_platform_cli.images.build import alone

_TAG = "edited"  # of runs whose image is not the deployed one
_UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
# What the server keeps of a deployment and gives to each run. A run cannot replace its entrypoint
# or its pull steps, so it replaces none of these.
_OF_RUNS = ("pull_steps", "parameters", "work_pool", "work_queue", "job_variables")


def parse_parameters(given: Iterable[str]) -> dict[str, Any]:
    """Return the parameters in NAME=VALUE, each VALUE as JSON, or as text if it is none."""
    parameters: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise PlatformError(
                f"--param {each} has no value", next_step=f"write --param {name}=VALUE"
            )
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def start(
    client: SyncPrefectClient,
    stores: Sequence[ImageStore],
    name: str,
    parameters: Mapping[str, Any],
    repository: Path = REPOSITORY,
) -> FlowRun:
    """Start a run of the deployment `name`, with the code of the repository; return the run.

    `name` is FLOW/DEPLOYMENT, or the flow if it has one deployment. `stores` are the images of the
    nodes. Only this run gets the code: the deployment and its schedules keep theirs. Raises
    PlatformError for a deployment that is unknown or differs from prefect.yaml, and for a flow that
    cannot be imported, before anything is loaded into the nodes.
    """
    found = _named(Deployments().read(client, Inventory()), name)
    with step(f"Import {found.body['entrypoint']}"):
        facts = _facts(found, repository)
    _refuse_other(found, _declared(found, facts, repository))
    _refuse_unknown(parameters, found, facts)
    with alone(cache_directory() / "images"):  # or another call would remove the image too early
        deployed = _image(client, found)
        image = bring(stores, deployed, repository)
        run = _create(client, found, parameters, image, [] if image == deployed else [_TAG])
        discard_superseded(stores, {image, *_images_of_runs(client)})
    return run


def _named(deployments: Sequence[Found], name: str) -> Found:
    exact = [each for each in deployments if each.key.name == name]
    of_flow = [each for each in deployments if each.key.name.rpartition("/")[0] == name]
    chosen = exact or of_flow
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(sorted(each.key.name for each in of_flow or deployments)) or "none"
    if of_flow:
        message = f"the flow {name} has several deployments: {known}"
    elif name:
        message = f"the server has no deployment {name}; it has {known}"
    else:
        message = f"no deployment is given; the server has {known}"
    raise PlatformError(
        message,
        next_step="prefect-platform run FLOW/DEPLOYMENT, or make deploy-cluster, which creates the "
        "deployments that are new in prefect.yaml",
    )


def _facts(found: Found, repository: Path) -> FlowFacts:
    try:
        return FlowLoader(repository, complete=True).load(found.body["entrypoint"])
    except EntrypointError as error:
        raise PlatformError(error.cause, next_step=error.fix) from error


def _declared(found: Found, facts: FlowFacts, repository: Path) -> Declared:
    """Return what prefect.yaml declares for the deployment; no other flow is loaded."""

    def load(entrypoint: str) -> FlowFacts:
        if entrypoint == found.body["entrypoint"]:
            return facts
        raise EntrypointError(f"{entrypoint} is not needed")

    try:
        declared = prefect_yaml.declare(source.read(repository / "prefect.yaml"), Offline(), load)
    except UnloadedFlowsError as error:
        declared = list(error.declared)
    for each in declared:
        if each.key == found.key:
            return each
    raise PlatformError(
        f"prefect.yaml declares no {found.key} with the entrypoint {found.body['entrypoint']}, "
        "which the server has",
        next_step="make deploy-cluster, which changes the server to match prefect.yaml",
    )


def _refuse_other(found: Found, declared: Declared) -> None:
    other = [name for name in _OF_RUNS if declared.body[name] != found.body[name]]
    if other:
        named = ", ".join(name.replace("_", " ") for name in other)
        raise PlatformError(
            f"{declared.at}: the server has the {found.key} with other values for: {named}",
            next_step="make deploy-cluster, which changes the server to match prefect.yaml",
        )


def _refuse_unknown(parameters: Mapping[str, Any], found: Found, facts: FlowFacts) -> None:
    known = facts.parameter_schema.get("properties", {})
    for name in parameters.keys() - known.keys():
        raise PlatformError(
            f"the flow of the {found.key} has no parameter {name}",
            next_step=f"use one of: {', '.join(known)}" if known else "leave --param out",
        )


def _image(client: SyncPrefectClient, found: Found) -> str:
    """Return the image that runs of the deployment start from."""
    template = client.read_work_pool(found.body["work_pool"]).base_job_template
    default = template["variables"]["properties"]["image"]["default"]
    return str(found.body["job_variables"].get("image", default))


def _create(
    client: SyncPrefectClient,
    found: Found,
    parameters: Mapping[str, Any],
    image: str,
    tags: Sequence[str],
) -> FlowRun:
    try:
        return client.create_flow_run_from_deployment(
            found.id, parameters=dict(parameters), job_variables={"image": image}, tags=tags
        )
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in (httpx.codes.CONFLICT, 422):
            raise
        raise PlatformError(
            f"the server refuses the parameters of the run: {detail(error.response)}",
            next_step="correct --param; if you have changed a parameter in the flow: make "
            "deploy-cluster, which tells the server",
        ) from error


def _images_of_runs(client: SyncPrefectClient) -> Iterator[str]:
    """Yield the images of the runs of edited code that have not ended, and may need a new pod."""
    wanted = {"tags": {"all_": [_TAG]}, "state": {"type": {"any_": list(_UNFINISHED)}}}
    for run in pages(client, "/flow_runs/filter", {"flow_runs": wanted}):
        if image := (run["job_variables"] or {}).get("image"):
            yield image
