"""The pin of the base has a checked form, and a failure to renew it names its cause.

`tests/integration/images/test_pinned_base.py` renews it from a real registry. Here, a stand-in
answers as registries do that want a token, and as no registry does.
"""

import hashlib
import json
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.pinned_base import PinnedBase, pin_base, pinned_base
from tests.support.servers import free_ports
from tests.unit.images.registry import Answer, registry

_DIGEST = f"sha256:{'0' * 64}"
_MANIFEST = json.dumps({"config": {"digest": _DIGEST}}).encode()
_CONFIG = b'{"created": "2026-01-02T03:04:05.123456789Z"}'


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    return tmp_path / "Dockerfile"


def test_the_dockerfile_pins_its_base_and_says_when_it_was_created() -> None:
    base = pinned_base()
    assert base.digest is not None
    assert base.created is not None


def test_a_creation_time_of_another_digest_is_not_believed(dockerfile: Path) -> None:
    other = f"sha256:{'1' * 64}"
    dockerfile.write_text(
        f"# {_DIGEST} was created at 2026-01-02T03:04:05+00:00\nARG BASE=a.example/b:1@{other}\n"
    )
    assert pinned_base(dockerfile) == PinnedBase("a.example/b:1", other, None)


def test_a_tag_without_a_digest_is_a_base_of_unknown_age(dockerfile: Path) -> None:
    dockerfile.write_text("ARG BASE=a.example/b:1\n")
    base = pinned_base(dockerfile)
    assert (base.reference, base.created) == ("a.example/b:1", None)


@pytest.mark.parametrize(
    "line", ["FROM debian", "ARG BASE=", "ARG BASE=a.example/b:1@sha256:0123", "ARG BASE=a@b"]
)
def test_a_dockerfile_without_a_complete_base_is_refused(dockerfile: Path, line: str) -> None:
    dockerfile.write_text(f"{line}\n")
    with pytest.raises(PlatformError, match=f"{dockerfile} names no base image") as refusal:
        pin_base(dockerfile)
    assert "ARG BASE=HOST/REPOSITORY:TAG" in refusal.value.next_step


@pytest.mark.parametrize("name", ["python", "a.example/python", "python:3.11"])
def test_a_base_without_a_registry_or_a_tag_is_refused(dockerfile: Path, name: str) -> None:
    dockerfile.write_text(f"ARG BASE={name}\n")
    with pytest.raises(PlatformError, match=f"{name} is not the name of an image in a registry"):
        pin_base(dockerfile)


def test_an_unreachable_registry_is_named_and_changes_nothing(dockerfile: Path) -> None:
    (port,) = free_ports(1)
    written = f"ARG BASE=127.0.0.1:{port}/library/python:1\n"
    dockerfile.write_text(written)
    with pytest.raises(PlatformError, match=f"registry 127.0.0.1:{port} is not reachable"):
        pin_base(dockerfile)
    assert dockerfile.read_text() == written


def test_a_token_is_fetched_from_a_registry_that_wants_one(dockerfile: Path) -> None:
    asked = []

    def answer(path: str, authorization: str) -> Answer:
        asked.append(path)
        if path == "/token?service=hub&scope=repository%3Alibrary%2Fpython%3Apull":
            return 200, {}, b'{"token": "issued"}'
        if authorization != "Bearer issued":
            challenge = (
                f'Bearer realm="http://{host}/token",service="hub",'
                'scope="repository:library/python:pull"'
            )
            return 401, {"WWW-Authenticate": challenge}, b""
        return 200, {}, _MANIFEST if "manifests" in path else _CONFIG

    with registry(answer) as host:
        dockerfile.write_text(f"ARG BASE={host}/library/python:1\n")
        base, changed = pin_base(dockerfile)

    assert changed
    assert base.digest == f"sha256:{hashlib.sha256(_MANIFEST).hexdigest()}"
    assert base.created is not None
    assert base.created.isoformat() == "2026-01-02T03:04:05.123456+00:00"
    assert len([path for path in asked if path.startswith("/token")]) == 1


@pytest.mark.parametrize("status", [401, 404, 429])
def test_a_refusal_names_the_registry_the_image_and_the_status(
    dockerfile: Path, status: int
) -> None:
    with registry(lambda *_: (status, {}, b"")) as host:
        dockerfile.write_text(f"ARG BASE={host}/library/python:1\n")
        with pytest.raises(PlatformError) as refusal:
            pin_base(dockerfile)
    assert f"answers with status {status} when asked for {host}/library/python:1" in str(
        refusal.value
    )


@pytest.mark.parametrize(
    "page", [b"<html>Log in to this network</html>", b'{"manifests": []}', b"{}"]
)
def test_an_answer_that_is_no_image_for_linux_is_refused(dockerfile: Path, page: bytes) -> None:
    with registry(lambda *_: (200, {}, page)) as host:
        dockerfile.write_text(f"ARG BASE={host}/library/python:1\n")
        with pytest.raises(PlatformError, match=r"does not describe .* as an image for Linux"):
            pin_base(dockerfile)


def test_only_one_dockerfile_names_a_base() -> None:
    named = [
        str(path.relative_to(REPOSITORY))
        for path in [REPOSITORY / "Dockerfile", *(REPOSITORY / "k8s").rglob("Dockerfile")]
        if "ARG BASE=" in path.read_text()
    ]
    assert named == ["Dockerfile"]
