"""The models of prefect.yaml: Prefect's own keys, except those that have no use here."""

from typing import Annotated, Any

from prefect.cli.deploy._models import RawScheduleConfig
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.types import ListOfNonEmptyStrings, NonEmptyishName
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    model_validator,
)

from prefect_platform.configuration.core.section import Section

LABELS = {"prefect-platform/managed": "true"}
"""Labels that mark deployments as declared by the files; Prefect also adds them to the runs."""

_BAKED = "the image of the job pods contains the flows, so a deploy builds and pushes nothing"
REFUSED = {
    "build": (_BAKED, "remove it; the Dockerfile builds that image"),
    "push": (_BAKED, "remove it; the Dockerfile builds that image"),
    "triggers": (
        "every deploy would create its automations again",
        "declare them under automations in platform.yaml, with {deployment: FLOW/NAME}",
    ),
    "sla": ("only Prefect Cloud has it", "remove it; alerts in platform.yaml find late runs"),
    "schedule": ("Prefect has deprecated it", "write `schedules:` with one item"),
    "flow_name": ("Prefect takes the name from the flow itself", "remove it"),
    "version_type": (
        "a version taken from Git differs between a laptop and a pod",
        "remove it; `version` can hold any text",
    ),
}
"""Keys of Prefect's model that are refused: why, and what to do instead."""


def _steps(steps: object) -> object:
    """Return a single step as a list of one, and none as None, as Prefect does."""
    if isinstance(steps, dict):
        return [steps] if steps else None
    return steps


PullStep = Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]
Pull = Annotated[list[PullStep] | None, BeforeValidator(_steps)]


class File(Section):
    """The top level of the file; deployments are read one by one."""

    name: str | None = None
    prefect_version: Annotated[str | None, Field(alias="prefect-version")] = None
    definitions: Any = None
    """A place for YAML anchors."""
    pull: Pull = None
    deployments: list[dict[str, Any]] | None = None


class DeploymentWorkPool(Section):
    """Where the runs go."""

    name: Annotated[str, Field(min_length=1)]
    work_queue_name: str | None = None
    job_variables: dict[str, Any] = Field(default_factory=dict)


class DeploymentConcurrencyLimit(ConcurrencyOptions):
    """How many runs may be under way, and what becomes of the next."""

    model_config = ConfigDict(extra="forbid")

    limit: PositiveInt


def _form(limit: object) -> str:
    return "options" if isinstance(limit, dict | DeploymentConcurrencyLimit) else "number"


class Deployment(Section):
    """One item of `deployments`."""

    name: NonEmptyishName
    entrypoint: str
    description: str | None = None
    version: str | None = None
    tags: ListOfNonEmptyStrings = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    enforce_parameter_schema: bool | None = None
    schedules: list[RawScheduleConfig] | None = None
    paused: bool | None = None
    concurrency_limit: (
        Annotated[
            Annotated[DeploymentConcurrencyLimit, Tag("options")]
            | Annotated[PositiveInt, Tag("number")],
            Discriminator(_form),
        ]
        | None
    ) = None
    work_pool: DeploymentWorkPool
    pull: Pull = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:  # noqa: ANN401
        """Drop keys that are null, as `prefect init` writes them."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}
