"""The chart's base job template, and which job variables it lets the API set.

Prefect's worker builds Jobs from the copy of the template that the server holds. Whoever may change
a work pool would then decide what the worker does in Kubernetes: the copy can even name a cluster
and a program that logs in to it. Here the copy on the server serves the user interface only.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jsonschema
from prefect.utilities.templating import PlaceholderType, find_placeholders
from prefect_kubernetes.utilities import (  # type: ignore[import-untyped]
    _slugify_label_key as as_key,
)

from prefect_platform.errors import PlatformError

# Labels by which policies, the observer and the reaper recognise a run.
_RESERVED_PREFIXES = ("prefect.io/", "app.kubernetes.io/", "batch.kubernetes.io/")
_RESERVED_KEYS = ("controller-uid", "job-name")
_NAMED_DIFFERENCES = 3
_REFERENCES = (PlaceholderType.BLOCK_DOCUMENT, PlaceholderType.VARIABLE)


@dataclass(frozen=True)
class BaseJobTemplate:
    """A base job template, with the keys `job_configuration` and `variables`."""

    document: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the template in a JSON file; raises PlatformError if there is none."""
        try:
            document = json.loads(path.read_text())
            jsonschema.Draft202012Validator.check_schema(document["variables"])
            _ = document["job_configuration"]["job_manifest"]["spec"]["template"]
        except (OSError, ValueError, KeyError, TypeError, jsonschema.SchemaError) as error:
            raise PlatformError(
                f"{path} is not a base job template: {type(error).__name__}: {error}",
                next_step="check the ConfigMap that the chart prefect-worker mounts there",
            ) from error
        return cls(document)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return up to three paths at which another template differs, sorted."""
        found = sorted(_differing(self.document, other, ()))
        return [".".join(path) for path in found][:_NAMED_DIFFERENCES]

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Return a sentence for each job variable that must not be set as in `values`.

        References to blocks and variables of Prefect must have been replaced by their values. A
        value may be secret, so no sentence contains one.
        """
        return [
            *self._invalid(values),
            *_placeholders(values),
            *self._reserved("labels", values),
            *self._reserved("annotations", values),
        ]

    def _invalid(self, values: Mapping[str, Any]) -> Iterator[str]:
        properties = self.document["variables"].get("properties", {})
        for name in sorted(values.keys() - properties.keys()):
            declared = ", ".join(sorted(properties))
            yield f"{name} is not a job variable of this pool, which has: {declared}"
        # Unlike Prefect, a null is refused where the type does not allow it: it removes the field.
        schema = {**self.document["variables"], "required": []}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(dict(values)):
            path = ".".join(str(step) for step in error.absolute_path)
            rule = json.dumps(error.validator_value)
            yield f"{path} does not meet the rule `{error.validator}: {rule}`"

    def _reserved(self, variable: str, values: Mapping[str, Any]) -> Iterator[str]:
        manifest = self.document["job_configuration"]["job_manifest"]
        of_chart = {
            key
            for metadata in (manifest.get("metadata"), manifest["spec"]["template"].get("metadata"))
            for key in (metadata or {}).get(variable) or {}
        }
        given = values.get(variable)
        for key in given if isinstance(given, Mapping) else ():
            slug = as_key(key)
            if slug in of_chart or slug in _RESERVED_KEYS or slug.startswith(_RESERVED_PREFIXES):
                yield f"{variable} sets {key}, which only the platform sets"


def _placeholders(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each variable with a placeholder that Prefect would replace later.

    Prefect renders the name of a Job a second time, with the environment of the worker.
    """
    for name, value in values.items():
        kinds = {each.type for each in find_placeholders(value)}
        if PlaceholderType.ENV_VAR in kinds:
            yield f"{name} refers to an environment variable of the worker"
        if kinds & {*_REFERENCES}:
            yield f"{name} refers to a value that itself refers to a block or variable"


def _differing(ours: object, theirs: object, at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        if ours != theirs:
            yield at
        return
    for key in ours.keys() | theirs.keys():
        if key in ours and key in theirs:
            yield from _differing(ours[key], theirs[key], (*at, str(key)))
        else:
            yield (*at, str(key))
