"""The platform's images, their inputs, and the tags that are computed from the inputs."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import TOOLS, fingerprint

# No host has this name, so a pod whose image is missing on its node fails at once with the name of
# the image, instead of pulling another image.
REGISTRY = "prefect-platform.local"


@dataclass(frozen=True)
class Recipe:
    """How one image is built: `context` and `inputs` are relative to the repository.

    `inputs` are files and folders in the context. `target` is a stage of its Dockerfile, and
    `installer` is the slowest stage, which is therefore kept from one build to the next. `programs`
    are names of the toolchain's programs; they are copied into the context, with inputs that are
    files beside the Dockerfile.
    `check` is a command in the image that prints what is wrong with it. `code` are the inputs that
    an edit changes; see `layered`.
    """

    name: str
    context: str
    inputs: tuple[str, ...]
    target: str | None = None
    installer: str | None = None
    programs: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    def paths(self, repository: Path) -> list[Path]:
        """Return the paths of the inputs in `repository`."""
        return [repository / self.context / given for given in self.inputs]


_LOCKED = tuple(f"requirements/{name}.txt" for name in ("base", "build"))

RECIPES = (
    Recipe(
        name="platform",
        context=".",
        target="platform",
        installer="installer",
        inputs=(
            *("Dockerfile", ".dockerignore", *_LOCKED, "requirements/platform.txt"),
            *("src/pyproject.toml", "src/prefect_platform"),
        ),
    ),
    Recipe(
        name="flows",
        context=".",
        target="flows",
        installer="installer",
        inputs=(
            *("Dockerfile", ".dockerignore", *_LOCKED, "requirements/flows.txt"),
            *("requirements/sources.txt", "prefect.yaml", "flows"),
            *("src/pyproject.toml", "src/prefect_platform"),
        ),
        check=(
            *("python", "-m", "prefect_platform.configuration.deployments.flow_image"),
            *("check", "prefect.yaml"),
        ),
        code=("prefect.yaml", "flows"),
    ),
    Recipe("postgres", "k8s/kind/images/postgres", ("Dockerfile", "entrypoint.sh")),
    Recipe("redis", "k8s/kind/images/redis", ("Dockerfile", "entrypoint.sh")),
    Recipe("seaweedfs", "k8s/kind/images/seaweedfs", ("Dockerfile", "requirements.txt")),
)
ARGOCD = Recipe("argocd", "k8s/argocd/local/image", ("Dockerfile",), programs=("argocd", "helm"))
"""Argo CD for `make deploy-argocd`. No other command builds it."""


def recipes(names: Sequence[str]) -> list[Recipe]:
    """Return the recipes of `names`; raises PlatformError for an unknown name."""
    known = {recipe.name: recipe for recipe in (*RECIPES, ARGOCD)}
    for name in names:
        if name not in known:
            raise PlatformError(
                f"there is no image {name}", next_step=f"use one of {', '.join(known)}"
            )
    return [known[name] for name in dict.fromkeys(names)]


def reference(recipe: Recipe, base: str, repository: Path = REPOSITORY) -> str:
    """Return the image's reference, whose tag changes with any of its inputs.

    `base` is the identity of the base. Raises PlatformError when an input is missing.
    """
    content = hashlib.sha256(f"{base}\n{recipe.target}\n".encode())
    content.update(_listed(files(recipe, recipe.inputs, repository)))
    for program in recipe.programs:
        content.update(f"{program}\n{fingerprint(TOOLS[program])}\n".encode())
    return f"{REGISTRY}/{recipe.name}:{content.hexdigest()[:12]}"


def fingerprints(recipe: Recipe, repository: Path = REPOSITORY) -> dict[str, str]:
    """Return CODE and RUNTIME, which change with the code of an image and with its other inputs.

    An image without code has neither. Raises PlatformError when an input is missing.
    """
    if not recipe.code:
        return {}
    others = [given for given in recipe.inputs if given not in recipe.code]
    return {
        name: hashlib.sha256(_listed(files(recipe, inputs, repository))).hexdigest()
        for name, inputs in {"CODE": recipe.code, "RUNTIME": others}.items()
    }


def untagged(references: Mapping[str, str]) -> dict[str, str]:
    """Return references by how manifests write their images, from references by name."""
    return {f"{REGISTRY}/{name}": reference for name, reference in references.items()}


def files(recipe: Recipe, inputs: Sequence[str], repository: Path = REPOSITORY) -> dict[str, Path]:
    """Return the files of `inputs` by their names in the context, sorted.

    Raises PlatformError when an input is missing.
    """
    context = repository / recipe.context
    return {
        str(path.relative_to(context)): path for path in sorted(_files(recipe, inputs, context))
    }


def _listed(named: Mapping[str, Path]) -> bytes:
    """Return a line for the name and a line for the digest of each file."""
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items()}
    return "".join(f"{name}\n{digest}\n" for name, digest in digests.items()).encode()


def _files(recipe: Recipe, inputs: Sequence[str], context: Path) -> Iterator[Path]:
    for path in (context / given for given in inputs):
        if path.is_dir():
            yield from (
                file
                for file in path.rglob("*")
                if file.is_file() and "__pycache__" not in file.parts
            )
        elif path.exists():
            yield path
        else:
            raise PlatformError(
                f"the image {recipe.name} cannot be built: {path} is missing",
                next_step=f"git restore {path}",
            )
