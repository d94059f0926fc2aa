"""Read an item of `deployments` in a prefect.yaml; check it with its flow and work pool."""

import math
from copy import deepcopy
from typing import Any

from prefect.utilities.importtools import import_object
from prefect.utilities.schema_tools.validation import CircularSchemaRefError, validate
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.templating import find_placeholders

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.reader import Reader
from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source, Step
from prefect_platform.configuration.core.unloaded import Unloaded
from prefect_platform.configuration.deployments import schedules
from prefect_platform.configuration.deployments.deployment_models import (
    LABELS,
    REFUSED,
    Deployment,
    DeploymentConcurrencyLimit,
    DeploymentWorkPool,
)
from prefect_platform.configuration.deployments.entrypoints import (
    EntrypointError,
    FlowFacts,
    Load,
)
from prefect_platform.configuration.deployments.schedule_runs import ScheduleError

DEFAULT_QUEUE = "default"  # every work pool has this queue


class DeploymentReader(Reader):
    """Reads one item of `deployments` and collects all of its problems."""

    def __init__(
        self,
        source: Source,
        index: int,
        pull: list[dict[str, Any]] | None,
        load: Load,
        context: Context,
    ) -> None:
        super().__init__(source, "deployments", index)
        self._pull = pull
        self._load = load
        self._context = context

    def declared(self, raw: dict[str, Any]) -> Declared | Unloaded:
        """Return what the item declares; raises ConfigurationError."""
        self._problems += refused(self._source, raw, *self._within)
        raw = known(raw)
        self._refuse_values(raw, ())
        entry = self._validated(Deployment, raw)
        if entry is None:
            raise ConfigurationError(self._problems)
        pull = self._pull_of(entry)
        declared_schedules, active = self._schedules_of(entry)
        flow = self._flow_of(entry)
        if isinstance(flow, FlowFacts):
            self._check_parameters(entry, flow)
        self._check_job_variables(entry.work_pool)
        if isinstance(flow, Unloaded):
            if self._problems:
                raise ConfigurationError([*self._problems, flow.problem])
            return flow
        if self._problems:
            raise ConfigurationError(self._problems)
        # As JSON, so that dates are text, as `prefect deploy` sends them.
        data = entry.model_dump(mode="json")
        limit, options = _limits(entry)
        body = {
            "entrypoint": entry.entrypoint,
            "path": None,
            "pull_steps": pull,
            "description": entry.description or flow.description,
            "version": entry.version or flow.version,
            "tags": entry.tags,
            "labels": dict(LABELS),
            "parameters": data["parameters"],
            "parameter_openapi_schema": flow.parameter_schema,
            "enforce_parameter_schema": entry.enforce_parameter_schema is not False,
            "work_pool": entry.work_pool.name,
            "work_queue": entry.work_pool.work_queue_name or DEFAULT_QUEUE,
            "job_variables": data["work_pool"]["job_variables"],
            "concurrency_limit": limit,
            "concurrency_options": options,
            "schedules": declared_schedules,
            **active,
        }
        if entry.paused is not None:
            body["paused"] = entry.paused
        return Declared(
            Key(Kind.DEPLOYMENT, f"{flow.name}/{entry.name}"),
            body,
            self._source.at(*self._within),
            needs=_needs(entry.work_pool),
        )

    def _refuse_values(self, value: Any, steps: tuple[Step, ...]) -> None:  # noqa: ANN401
        """Refuse templates and references, which a deploy would resolve, and values not in JSON.

        Pull steps may contain them, because they are resolved in the run.
        """
        match value:
            case dict():
                if "$ref" in value:
                    self._refuse(
                        (*steps, "$ref"),
                        "a reference to a block would copy its values, including secrets, into "
                        "the deployment, where everybody can read them",
                        "load the block in the flow",
                    )
                for key, item in value.items():
                    if (*steps, key) != ("pull",):
                        self._refuse_values(item, (*steps, key))
            case list():
                for index, item in enumerate(value):
                    self._refuse_values(item, (*steps, index))
            case str():
                for placeholder in sorted(find_placeholders(value)):
                    self._refuse_template(placeholder.name, steps)
            case float() if not math.isfinite(value):
                self._refuse(steps, f"{value} is not valid JSON", "write a number")

    def _refuse_template(self, name: str, steps: tuple[Step, ...]) -> None:
        if name.startswith("ctx.") and steps[:2] == ("work_pool", "job_variables"):
            return  # resolved by the worker for each run
        if name.startswith("prefect.blocks."):
            cause = "would copy a value of a block, which may be secret, into the deployment"
            fix = "load the block in the flow"
        elif name.startswith("prefect.variables."):
            cause = "would be resolved once, and would not follow changes of the variable"
            fix = "read it in the flow with Variable.get"
        elif name.startswith("$"):
            cause = "is an environment variable, which differs between a laptop and a pod"
            fix = "write the value"
        else:
            cause = (
                "is the output of a build step, but there are no build steps: it would be dropped"
            )
            fix = "write the value"
        self._refuse(steps, f"{{{{ {name} }}}} {cause}", fix)

    def _pull_of(self, entry: Deployment) -> list[dict[str, Any]]:
        # An empty list means no steps; null and {} mean that `pull` is not given, as in Prefect.
        pull = self._pull if entry.pull is None else entry.pull
        if pull is None:
            self._refuse(
                (),
                "there is no pull step: Prefect would use the directory of the machine that "
                "deploys",
                "write `pull: [{prefect.deployments.steps.set_working_directory: {directory: "
                "/opt/prefect}}]`, or `pull: []` if the image starts in the right directory",
            )
            return []
        self._problems += unknown_steps(self._source, entry.pull, *self._within, "pull")
        return deepcopy(pull)

    def _schedules_of(self, entry: Deployment) -> tuple[list[schedules.Schedule], dict[str, bool]]:
        declared: list[schedules.Schedule] = []
        active: dict[str, bool] = {}
        for index, config in enumerate(entry.schedules or []):
            try:
                schedule, is_active = schedules.declared(config)
            except ScheduleError as error:
                self._refuse(("schedules", index, error.key), error.cause, error.fix)
                continue
            if schedule["slug"] in {each["slug"] for each in declared}:
                self._refuse(
                    ("schedules", index, "slug"),
                    f"two schedules have the slug {schedule['slug']}",
                    "choose another slug for one of them",
                )
            declared.append(schedule)
            if is_active is not None:
                active[schedules.active_key(schedule["slug"])] = is_active
        return schedules.in_order(declared), active

    def _flow_of(self, entry: Deployment) -> FlowFacts | Unloaded:
        try:
            return self._load(entry.entrypoint)
        except EntrypointError as error:
            at = self._source.at(*self._within, "entrypoint")
            return Unloaded(entry.name, Problem(at, error.cause, error.fix))

    def _check_parameters(self, entry: Deployment, flow: FlowFacts) -> None:
        data = entry.model_dump(mode="json")
        self._check_values(data["parameters"], entry, flow, ("parameters",))
        for index, schedule in enumerate(data["schedules"] or []):
            steps: tuple[Step, ...] = ("schedules", index)
            self._check_values(schedule["parameters"], entry, flow, (*steps, "parameters"))
            given = data["parameters"] | schedule["parameters"]
            for name in flow.parameter_schema.get("required", []):
                if name not in given:
                    self._refuse(
                        steps,
                        f"the schedule sets no value for {name}, which the flow {flow.name} "
                        "requires",
                        f"set {name} under parameters",
                    )

    def _check_values(
        self,
        values: dict[str, Any],
        entry: Deployment,
        flow: FlowFacts,
        steps: tuple[Step, ...],
    ) -> None:
        known = flow.parameter_schema.get("properties", {})
        for name in values.keys() - known.keys():
            self._refuse(
                (*steps, name),
                f"the flow {flow.name} has no parameter {name}",
                f"use one of: {', '.join(known)}" if known else "remove it",
            )
        if entry.enforce_parameter_schema is not False:
            mine = {name: value for name, value in values.items() if name in known}
            self._check_schema(mine, flow.parameter_schema, steps)

    def _check_job_variables(self, pool: DeploymentWorkPool) -> None:
        template = self._context.base_job_template(pool.name) or {}
        schema = template.get("variables") or {}
        known = schema.get("properties")
        if known is None:
            return
        variables = pool.model_dump(mode="json")["job_variables"]
        steps = ("work_pool", "job_variables")
        for name in variables.keys() - known.keys():
            self._refuse(
                (*steps, name),
                f"the base job template of the work pool {pool.name} has no variable {name}",
                f"use one of: {', '.join(known)}",
            )
        mine = {name: value for name, value in variables.items() if name in known}
        self._check_schema(mine, schema, steps)

    def _check_schema(
        self, values: dict[str, Any], schema: dict[str, Any], steps: tuple[Step, ...]
    ) -> None:
        """Refuse what the server would refuse, using the server's own function."""
        try:
            errors = validate(values, schema, ignore_required=True)
        except (SchemaError, CircularSchemaRefError) as error:
            self._refuse(steps, f"the schema cannot be used: {error}", "correct the flow")
            return
        for each in errors:
            path = (*steps, *each.absolute_path)
            self._refuse(path, f"{path[-1]}: {each.message}", "correct it")


def _limits(entry: Deployment) -> tuple[int | None, dict[str, Any] | None]:
    match entry.concurrency_limit:
        case DeploymentConcurrencyLimit() as given:
            options = given.model_dump(mode="json", exclude={"limit"})
            return given.limit, options
        case limit:
            return limit, None


def _needs(pool: DeploymentWorkPool) -> frozenset[Key]:
    needs = {Key(Kind.WORK_POOL, pool.name)}
    if pool.work_queue_name not in (None, DEFAULT_QUEUE):
        needs.add(Key(Kind.WORK_QUEUE, f"{pool.name}/{pool.work_queue_name}"))
    return frozenset(needs)


def refused(source: Source, raw: Any, *within: Step) -> list[Problem]:  # noqa: ANN401
    """Return a problem for each key of Prefect's model that is refused here."""
    if not isinstance(raw, dict):
        return []
    return [
        Problem(source.at(*within, key), f"{key} is not supported: {cause}", fix)
        for key, (cause, fix) in REFUSED.items()
        if raw.get(key)
    ]


def known(raw: Any) -> Any:  # noqa: ANN401
    """Return a mapping without the keys that `refused` reports, even where they are empty."""
    if not isinstance(raw, dict):
        return raw
    return {key: value for key, value in raw.items() if key not in REFUSED}


def unknown_steps(
    source: Source, steps: list[dict[str, Any]] | None, *within: Step
) -> list[Problem]:
    """Return a problem for each step in Prefect's namespace that does not exist.

    Every run would fail at such a step.
    """
    problems = []
    for index, step in enumerate(steps or []):
        (name,) = step
        if name.startswith("prefect."):
            try:
                import_object(name)
            except (ImportError, AttributeError):
                at = source.at(*within, index)
                problems.append(Problem(at, f"Prefect has no step {name}", "correct the name"))
    return problems
