"""Hypothesis strategies for valid `blocks` sections and the Secrets that they refer to."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from prefect_platform.configuration.core.context import Mounted
from prefect_platform.configuration.core.source import Source, read

# Characters that YAML writes without escapes; no line breaks, as a trailing one is stripped.
TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=8)
NAMES = st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,6}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# A mapping with only these keys would be a reference.
MAPPINGS = st.dictionaries(TEXT.filter(lambda key: key not in ("secret", "file")), JSON, max_size=3)


@dataclass
class Section:
    """A section, and the values of the keys of the Secret named `held`."""

    blocks: dict[str, dict[str, Any]]
    secrets: dict[str, str] = field(default_factory=dict)

    def written(self, directory: Path) -> tuple[Source, Mounted]:
        """Write everything into `directory` and return the arguments of `declare`."""
        held = directory / "secrets" / "held"
        held.mkdir(parents=True, exist_ok=True)
        for key, value in self.secrets.items():
            (held / key).write_text(value + "\n")
        path = directory / "platform.yaml"
        path.write_text(json.dumps({"blocks": self.blocks}, ensure_ascii=False))
        return read(path), Mounted(directory / "secrets", directory, "")


@st.composite
def sections(draw: st.DrawFn) -> Section:
    """Return sections whose blocks refer to each other, two levels deep."""
    section = Section({})

    def secret() -> dict[str, Any]:
        key = f"key-{len(section.secrets)}"
        section.secrets[key] = draw(TEXT.filter(lambda text: text != "********"))
        return {"secret": {"name": "held", "key": key}}

    def maybe(name: str, values: st.SearchStrategy[Any]) -> dict[str, Any]:
        given: bool = draw(st.booleans())
        return {name: draw(values)} if given else {}

    def aws() -> dict[str, Any]:
        return {
            **maybe("aws_access_key_id", st.none() | TEXT | st.builds(secret)),
            **maybe("aws_secret_access_key", st.none() | st.builds(secret)),
            **maybe("region_name", TEXT),
            **maybe(
                "aws_client_parameters",
                st.fixed_dictionaries(
                    {}, optional={"endpoint_url": TEXT, "use_ssl": st.booleans()}
                ),
            ),
        }

    def minio() -> dict[str, Any]:
        return {"minio_root_user": draw(TEXT), "minio_root_password": secret()}

    def add(block_type: str, *shapes: Any) -> None:  # noqa: ANN401 - functions without arguments
        for name in draw(st.lists(NAMES, max_size=2, unique=True)):
            section.blocks[f"{block_type}/{name}"] = draw(st.sampled_from(shapes))()

    def refer(*block_types: str) -> dict[str, str] | None:
        names = [name for name in section.blocks if name.partition("/")[0] in block_types]
        return (
            {"block": draw(st.sampled_from(names))} if bool(names) and draw(st.booleans()) else None
        )

    add("aws-credentials", aws)
    add("minio-credentials", minio)
    add(
        "s3-bucket",
        lambda: {"bucket_name": draw(TEXT)},
        lambda: {
            "bucket_name": draw(TEXT),
            "credentials": refer("aws-credentials", "minio-credentials")
            or draw(st.sampled_from([aws, minio]))(),
        },
    )
    add(
        "kubernetes-cluster-config",
        lambda: {"config": draw(MAPPINGS), "context_name": draw(TEXT)},
    )
    add(
        "kubernetes-credentials",
        dict,
        lambda: {"cluster_config": refer("kubernetes-cluster-config")},
    )
    add(
        "k8s-job",
        lambda: {
            "v1_job": draw(MAPPINGS),
            "credentials": refer("kubernetes-credentials") or {},
        },
    )
    add("secret", lambda: {"value": secret()}, lambda: {"value": {"a": secret(), "b": secret()}})
    add(
        "webhook",
        lambda: {"url": secret(), "headers": {draw(TEXT.filter(bool)): secret()}},
        lambda: {"url": secret(), "method": "PUT", "verify": False},
    )
    add(
        "custom-webhook",
        lambda: {"name": draw(TEXT), "url": "http://host/", "json_data": draw(MAPPINGS)},
    )
    # Shuffle the blocks: a block may refer to one that comes later in the file.
    order = draw(st.permutations(list(section.blocks)))
    section.blocks = {name: section.blocks[name] for name in order}
    return section
