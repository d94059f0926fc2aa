"""Commit what the local cluster needs beside the user's commit, and push it into the cluster.

The commit is made in a temporary clone, so that nothing is written to the user's repository.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.names import NAMESPACE
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube.clients import program
from prefect_platform_cli.kube.kubectl import Kubectl

_ENVIRONMENT = Path("k8s", "environments", "local")
# Variables, because those of the user's environment would override the options -c user.name.
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "prefect-platform"), ("EMAIL", "prefect-platform@localhost"))
}


def refuse_shallow(repository: Path = REPOSITORY) -> None:
    """Raise PlatformError for a shallow clone, which cannot be pushed."""
    if git(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise PlatformError(
            f"{repository} is a shallow clone: without its history, it cannot be pushed to the "
            "cluster",
            next_step="git fetch --unshallow",
        )


@contextmanager
def snapshot(repository: Path, settings: Mapping[str, Mapping[str, Any]]) -> Iterator[Path]:
    """Yield a clone of `repository` whose newest commit adds `settings` to the one checked out.

    `settings` are values by the name of the values file in k8s/environments/local that they are
    added to. The same commit and settings always give the same commit. Raises PlatformError when
    one of the files cannot be read.
    """
    head = git(repository, "rev-parse", "HEAD")
    when = git(repository, "show", "--no-patch", "--format=%cI", head)
    with TemporaryDirectory() as folder:
        clone = Path(folder)
        git(repository, "clone", "--quiet", "--shared", "--no-checkout", ".", clone)
        git(clone, "checkout", "--quiet", "--detach", head)
        for name, values in settings.items():
            _add_values(clone / _ENVIRONMENT / name, values)
        # The images are named by tag, in the files above: on the nodes they have no digest.
        (clone / _ENVIRONMENT / "images.yaml").write_text("{}\n")
        git(clone, "add", _ENVIRONMENT)
        git(
            clone,
            *("-c", "commit.gpgSign=false", "commit", "--quiet", "--no-verify"),
            f"--message=Deploy {head[:12]} to the local cluster",
            variables={**_IDENTITY, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when},
        )
        yield clone


def push(kubectl: Kubectl, clone: Path) -> bool:
    """Push the newest commit of `clone` to the cluster's repository; False if it has it already."""
    client, kubeconfig = (
        str(path).replace("%", "%%").replace(" ", "% ")
        for path in (program("kubectl"), kubectl.kubeconfig)
    )
    remote = (
        f"ext::{client} --kubeconfig {kubeconfig} --namespace {NAMESPACE} exec --stdin "
        "statefulset/repository --container git -- %S /srv/platform.git"
    )
    allowed = ("-c", "protocol.ext.allow=always")
    pushed = git(clone, *allowed, "push", "--porcelain", "--force", remote, "HEAD:refs/heads/main")
    return "[up to date]" not in pushed


def _add_values(file: Path, values: Mapping[str, Any]) -> None:
    try:
        existing = YAML(typ="safe").load(file) or {}
    except YAMLError as error:
        raise PlatformError(
            f"{_ENVIRONMENT / file.name} cannot be read: {error}",
            next_step="correct the file, commit it, and run the command again",
        ) from error
    file.write_text(yaml.safe_dump(_merged(existing, values), sort_keys=False))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as Helm merges values files: objects by key, everything else as a whole."""
    both = {
        key: _merged(below[key], value)
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        else value
        for key, value in above.items()
    }
    return {**below, **both}
