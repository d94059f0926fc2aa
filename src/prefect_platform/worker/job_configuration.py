"""Build the Jobs of flow runs from the chart's base job template, with values from the API."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.utilities import inject_client
from prefect.utilities.collections import deep_merge, set_in_dict
from prefect.utilities.templating import resolve_block_document_references, resolve_variables
from prefect_kubernetes.worker import (  # type: ignore[import-untyped]
    KubernetesWorkerJobConfiguration,
)

from prefect_platform.run_identity.identity import OF_A_RUN
from prefect_platform.worker.base_job_template import BaseJobTemplate

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


class RefusedJobVariables(ValueError):  # noqa: N818 - Prefect shows the name in the run's state
    """The API sets job variables that the chart's template does not allow."""


class ChartJobConfiguration(KubernetesWorkerJobConfiguration):  # type: ignore[misc]
    """The configuration of a run's Job, in which the API sets declared job variables only."""

    template: ClassVar[BaseJobTemplate]

    def prepare_for_flow_run(self, flow_run: FlowRun, *parts: Any, **more: Any) -> None:  # noqa: ANN401 - as Prefect's
        """Complete the manifest for a run, and let the token of its pod name the run."""
        super().prepare_for_flow_run(flow_run, *parts, **more)
        for part in (self.job_manifest, self.job_manifest["spec"]["template"]):
            labels = part["metadata"]["labels"]
            for key, value in labels.items():
                if not _LABEL_VALUE.fullmatch(value):
                    # Prefect keeps a name without letters and digits, which Kubernetes refuses.
                    labels[key] = ""
        for token in run_tokens(self.job_manifest):
            token["audience"] = f"{token['audience']}{flow_run.id}"

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        environment: dict[str, str] = super()._base_environment()
        if run_tokens(cls.template.document["job_configuration"]["job_manifest"]):
            environment.pop("PREFECT_API_AUTH_STRING", None)
        return environment

    @classmethod
    @inject_client
    async def from_template_and_values(
        cls,
        base_job_template: dict[str, Any],  # noqa: ARG003 - the server's copy, which is not used
        values: dict[str, Any],
        client: PrefectClient | None = None,
    ) -> Self:
        """Return the configuration for the job variables `values`.

        Raises RefusedJobVariables, which names each variable that is not allowed and the rule.
        """
        nested = _nested(values)
        nested = await resolve_block_document_references(nested, client=client)
        nested = await resolve_variables(nested, client=client)
        if problems := cls.template.problems(nested):
            raise RefusedJobVariables(
                f"The job variables are refused: {'; '.join(problems)}. Next step: correct the "
                "job variables of the deployment or of the run; docs/operations/pools.md lists "
                "what they may set."
            )
        configuration: Self = await super().from_template_and_values(
            base_job_template=dict(cls.template.document), values=nested, client=client
        )
        return configuration


def run_tokens(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the projections of a Job's volumes that hold the token of its run."""
    return [
        source["serviceAccountToken"]
        for volume in job["spec"]["template"]["spec"].get("volumes") or ()
        for source in volume.get("projected", {}).get("sources", ())
        if source.get("serviceAccountToken", {}).get("audience", "").endswith(OF_A_RUN)
    ]


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables with keys such as `env.NAME` written out, as Prefect does it."""
    nested: dict[str, Any] = {}
    for key in sorted(values, key=lambda key: "." not in key):
        value, before = values[key], nested.get(key)
        if "." in key:
            set_in_dict(nested, key, value)
        elif isinstance(before, dict) and isinstance(value, dict):
            nested[key] = deep_merge(before, value)
        else:
            nested[key] = value
    return nested
