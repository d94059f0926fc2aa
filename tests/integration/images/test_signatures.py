"""Images and charts are signed by a real cosign, and only those that this machine has built."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.images.catalogue import Recipe
from prefect_platform_cli.images.charts import CHARTS, push_charts
from prefect_platform_cli.images.push import Pushed, push
from prefect_platform_cli.images.remote import Registry
from prefect_platform_cli.images.signature import Signer, signer
from tests.integration.images import registries
from tests.integration.images.contained import Store
from tests.support.documented import block

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root to build images"),
    pytest.mark.whole,  # cosign takes longer to build than any other program of the tests
    pytest.mark.timeout(1800),
]

_PASSWORD = "of-the-key"
_REPOSITORY = "ghcr.io/example/platform"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    context = tmp_path / "context"
    context.mkdir()
    (context / "status").write_text("Package: example\nStatus: install ok installed\nVersion: 1\n")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY status /var/lib/dpkg/status\n")
    return Recipe("flows", str(context), ("Dockerfile", "status"))


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", _PASSWORD)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return _key(tmp_path / "key")


def _key(folder: Path) -> Path:
    folder.mkdir()
    subprocess.run([tool("cosign"), "generate-key-pair"], cwd=folder, check=True)
    return folder / "cosign.key"


def _push(recipe: Recipe, registry: Registry, folder: Path, signing: Signer | None) -> Pushed:
    (pushed,) = push([recipe], registry, folder, builder="buildah", base="scratch", signer=signing)
    return pushed


def _verifies(registry: Registry, image: str, key: Path) -> bool:
    """Run the command of the page with the public half of a key."""
    (command,) = block("operations/registry.md", "### Verify a signature", "sh").splitlines()
    name, _, _ = image.partition("@")
    _, *arguments, example = shlex.split(command.replace("name=flows", f"name={name}"))
    assert example.startswith(f"{_REPOSITORY}/flows@sha256:")
    return (
        subprocess.run(
            [tool("cosign"), *arguments, "--allow-http-registry", f"{registry.address}/{image}"],
            cwd=key.parent,
            check=False,
        ).returncode
        == 0
    )


def test_a_signature_is_valid_for_its_key_alone(
    recipe: Recipe, registry: Registry, key: Path, tmp_path: Path
) -> None:
    pushed = _push(recipe, registry, tmp_path / "builds", signer(str(key)))

    assert _verifies(registry, f"flows@{pushed.digest}", key)
    assert not _verifies(registry, f"flows@{pushed.digest}", _key(tmp_path / "another"))


def test_an_image_that_is_signed_is_neither_pushed_nor_signed_again(
    recipe: Recipe, registry: Registry, key: Path, tmp_path: Path
) -> None:
    signing = signer(str(key))
    first = _push(recipe, registry, tmp_path / "one machine", signing)
    signed = _signatures(registry, first)
    second = _push(recipe, registry, tmp_path / "another machine", signing)

    assert (first.is_new, second.is_new) == (True, False)
    assert first.digest == second.digest
    assert _signatures(registry, second) == signed


def test_an_image_gets_the_signature_of_a_new_key_and_keeps_that_of_the_old_one(
    recipe: Recipe, registry: Registry, key: Path, tmp_path: Path
) -> None:
    new = _key(tmp_path / "new")
    first = _push(recipe, registry, tmp_path / "builds", signer(str(key)))
    second = _push(recipe, registry, tmp_path / "builds", signer(str(new)))

    assert first.digest == second.digest
    assert _verifies(registry, f"flows@{first.digest}", key)
    assert _verifies(registry, f"flows@{first.digest}", new)


def test_what_others_have_pushed_is_replaced_and_never_signed(
    recipe: Recipe, registry: Registry, key: Path, tmp_path: Path
) -> None:
    ours = _push(recipe, registry, tmp_path / "builds", None)
    (tag,) = _tags(registry)
    (tmp_path / "store").mkdir()
    foreign = registries.publish(
        Store(tmp_path / "store"), f"{registry.address}/flows:{tag}", "not ours"
    )
    (sbom,) = (tmp_path / "builds" / "sboms").iterdir()
    registry.attach("flows", foreign, sbom)
    assert _push(recipe, registry, tmp_path / "builds", None).digest == foreign  # trusts the tag

    pushed = _push(recipe, registry, tmp_path / "builds", signer(str(key)))

    assert pushed == Pushed("flows", ours.digest, is_new=True)
    assert registry.digest("flows", tag) == ours.digest
    assert _verifies(registry, f"flows@{ours.digest}", key)
    assert not _verifies(registry, f"flows@{foreign}", key)


def test_an_older_image_with_the_tag_of_a_newer_one_is_replaced(
    recipe: Recipe, registry: Registry, key: Path, tmp_path: Path
) -> None:
    signing = signer(str(key))
    older = _push(recipe, registry, tmp_path / "builds", signing)
    (old_tag,) = _tags(registry)
    Path(recipe.context, "status").write_text("Package: example\nVersion: 2\n")
    newer = _push(recipe, registry, tmp_path / "builds", signing)
    (new_tag,) = _tags(registry) - {old_tag}
    _oras("tag", f"{registry.address}/flows@{older.digest}", new_tag)

    pushed = _push(recipe, registry, tmp_path / "builds", signing)

    assert pushed == Pushed("flows", newer.digest, is_new=True)
    assert registry.digest("flows", new_tag) == newer.digest


def test_a_chart_is_signed_once(registry: Registry, key: Path) -> None:
    signing = signer(str(key))
    (first,) = push_charts(registry, CHARTS[:1], signing)
    (again,) = push_charts(registry, CHARTS[:1], signing)

    assert (first.is_new, again.is_new) == (True, False)
    digest = registry.digest("charts/prefect-server", first.version.replace("+", "_"))
    assert _verifies(registry, f"charts/prefect-server@{digest}", key)


def test_the_credentials_of_a_login_are_used(
    recipe: Recipe, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    with registries.running(tmp_path / "locked", password=True) as locked:
        registries.log_in(locked, registries.PASSWORD, tmp_path, monkeypatch)
        registry, signing = Registry(f"{locked}/ours"), signer(str(key))
        pushed = _push(recipe, registry, tmp_path / "builds", signing)

        assert not _push(recipe, registry, tmp_path / "builds", signing).is_new
        assert pushed.is_new


@pytest.mark.parametrize(
    ("given", "message", "next_step"),
    [
        (None, "the password of SIGNING_KEY={key} is not known", "export COSIGN_PASSWORD"),
        ("wrong", "SIGNING_KEY={key} cannot be used", "check the key and COSIGN_PASSWORD"),
    ],
    ids=["no password", "a wrong password"],
)
def test_a_key_that_cannot_be_used_is_refused(
    key: Path,
    given: str | None,
    message: str,
    next_step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if given is None:
        monkeypatch.delenv("COSIGN_PASSWORD")
    else:
        monkeypatch.setenv("COSIGN_PASSWORD", given)

    with pytest.raises(PlatformError) as refusal:
        signer(str(key))

    assert refusal.value.message.startswith(message.format(key=key))
    assert refusal.value.next_step.startswith(next_step)


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")

    with pytest.raises(PlatformError, match=r"SIGNING_KEY=.*/key cannot be used: .* exited with 1"):
        signer(str(tmp_path / "key"))


def _signatures(registry: Registry, pushed: Pushed) -> str:
    """Return the digest of the list of an image's signatures."""
    return registry.digest("flows", f"{pushed.digest.replace(':', '-')}.sig")


def _tags(registry: Registry) -> set[str]:
    """Return the tags of images; those of their signatures and lists of packages are digests."""
    found = json.loads(_oras("repo", "tags", f"{registry.address}/flows", "--format=json"))["tags"]
    return {each for each in found if not each.startswith("sha256-")}


def _oras(*arguments: str) -> str:
    return subprocess.run(
        [tool("oras"), *arguments, "--plain-http"], check=True, capture_output=True, text=True
    ).stdout
