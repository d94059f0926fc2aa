"""The images of an environment: images.yaml, a values file that both charts read.

The local environment has none: its images are loaded into the nodes and have no digest there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY

_HEADER = """\
# The images of {environment}, by digest, for both charts. `make push` or `prefect-platform promote`
# writes this file; see docs/operations/registry.md.
"""


class _Global(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    image_registry: str
    image_digests: dict[str, str]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    values: _Global = Field(alias="global")


@dataclass(frozen=True)
class Images:
    """The digest of each image by its name below `registry`, which is HOST/PATH."""

    registry: str
    digests: Mapping[str, str]


def images_file(environment: str, repository: Path = REPOSITORY) -> Path:
    """Return the images.yaml of an environment; raises PlatformError if it has none."""
    folder = repository / "k8s" / "environments"
    known = {path.parent.name: path for path in sorted(folder.glob("*/images.yaml"))}
    if environment not in known:
        raise PlatformError(
            f"the environment {environment} has no images.yaml"
            if environment
            else "no environment is given",
            next_step=f"use one of {', '.join(known)}",
        )
    return known[environment]


def read(file: Path) -> Images:
    """Return the content of an images.yaml; raises PlatformError when it has another form."""
    try:
        values = _File.model_validate(YAML(typ="safe").load(file)).values
    except (YAMLError, ValidationError) as error:
        raise PlatformError(
            f"{file} cannot be read: {error}", next_step=f"git checkout {file}"
        ) from error
    return Images(values.image_registry, values.image_digests)


def write(file: Path, images: Images) -> bool:
    """Write an images.yaml as a whole; False when it has this content."""
    values = {
        "imageRegistry": images.registry,
        "imageDigests": dict(sorted(images.digests.items())),
    }
    text = _HEADER.format(environment=file.parent.name) + yaml.safe_dump(
        {"global": values}, sort_keys=False
    )
    if file.exists() and file.read_text() == text:
        return False
    temporary = file.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(file)
    return True
