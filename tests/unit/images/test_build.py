"""Unchanged images are not built again, and an interrupted build is completed."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images import build as module
from prefect_platform_cli.images import contract
from prefect_platform_cli.images.base import Base
from prefect_platform_cli.images.build import build
from prefect_platform_cli.images.builder import Order


class _Builder:
    """A builder that only records its orders; it refuses to build the image named in `fails`."""

    name = "recorder"

    def __init__(self) -> None:
        self.held: list[str] = []
        self.built: list[str] = []
        self.listed: list[str] = []
        self.checked: list[str] = []
        self.orders: dict[str, Order] = {}
        self.fails = ""

    def references(self) -> list[str]:
        return [*self.held, "somebody/else:1"]

    def build(self, order: Order) -> None:
        if self.fails and f"/{self.fails}:" in order.reference:
            raise PlatformError("it does not build", next_step="less log")
        self.held.append(order.reference)
        self.built.append(order.reference.rpartition("/")[2].partition(":")[0])
        self.orders[self.built[-1]] = order

    def export(self, references: Sequence[str], archive: Path) -> None:
        archive.write_text("\n".join(references))

    def pack_files(self, reference: str, patterns: Sequence[str], archive: Path) -> None:
        assert patterns
        self.listed.append(reference.rpartition("/")[2].partition(":")[0])
        with tarfile.open(archive, "w"):
            pass

    def discard(self, references: Sequence[str]) -> None:
        self.held = [held for held in self.held if held not in references]


@pytest.fixture
def base(tmp_path: Path) -> Base:
    rootfs = tmp_path / "bases" / "recipe" / "rootfs.tar"
    rootfs.parent.mkdir(parents=True)
    rootfs.write_text("a system")
    return Base("prefect-platform.local/base:first", "first", "no registry", rootfs)


@pytest.fixture
def builder(tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch) -> _Builder:
    recorder = _Builder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "choose_base", lambda _forced: base)
    monkeypatch.setattr(module, "choose_builder", lambda *_, **__: (recorder, "it is a test"))

    def check(_builder: object, reference: str, *_: object) -> None:
        recorder.checked.append(reference.rpartition("/")[2].partition(":")[0])

    monkeypatch.setattr(contract, "check", check)
    return recorder


def _another_base(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Base("prefect-platform.local/base:second", "second", base.reason, base.rootfs)
    monkeypatch.setattr(module, "choose_base", lambda _forced: other)


def test_one_archive_contains_all_requested_images(builder: _Builder) -> None:
    images = build(["platform", "flows"])
    assert [image.name for image in images] == ["platform", "flows"]
    assert {image.archive.read_text() for image in images} == {
        "\n".join(image.reference for image in images)
    }
    assert builder.built == ["base", "platform", "flows"]


def test_a_second_run_builds_and_exports_nothing(
    builder: _Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = build(["flows"])
    first.archive.write_text("the first export")
    assert build(["flows"]) == [first]
    assert builder.built == ["base", "flows"]
    assert first.archive.read_text() == "the first export"
    assert "unchanged" in capsys.readouterr().err


def test_images_built_before_a_failure_are_not_built_again(builder: _Builder) -> None:
    builder.fails = "redis"
    with pytest.raises(PlatformError):
        build(["postgres", "redis"])
    builder.fails = ""
    build(["postgres", "redis"])
    assert builder.built == ["base", "postgres", "redis"]


def test_an_interrupted_export_is_repeated_and_leaves_no_partial_file(
    builder: _Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_references: Sequence[str], archive: Path) -> None:
        archive.write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(builder, "export", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(["flows"])
    (image,) = build(["flows"])
    assert image.archive.read_text() == image.reference
    assert [path.name for path in image.archive.parent.iterdir()] == [image.archive.name]


def test_an_image_is_discarded_if_its_files_change_during_the_build(
    builder: _Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = iter(["prefect-platform.local/flows:before", "prefect-platform.local/flows:after"])
    with monkeypatch.context() as patched:
        patched.setattr(module, "reference", lambda *_: next(tags))
        with pytest.raises(PlatformError, match="flows changed while it was being built"):
            build(["flows"])
    assert not [held for held in builder.held if "flows" in held]


def test_a_new_version_replaces_only_the_old_version(
    builder: _Builder, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    (redis,) = build(["redis"])
    (old,) = build(["flows"])
    _another_base(base, monkeypatch)
    (new,) = build(["flows"])
    assert not old.archive.exists()
    assert old.reference not in builder.held
    assert new.archive.exists()
    assert redis.archive.exists()
    assert redis.reference in builder.held


def test_a_locally_made_base_is_imported_from_its_archive(
    builder: _Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    record = builder.build

    def look(order: Order) -> None:
        if order.reference.startswith("prefect-platform.local/base:"):
            seen.update({path.name: path.read_text() for path in order.context.iterdir()})
        record(order)

    monkeypatch.setattr(builder, "build", look)
    build(["flows"])
    assert seen == {"rootfs.tar": "a system", "Dockerfile": "FROM scratch\nADD rootfs.tar /\n"}
    assert builder.orders["flows"].arguments["BASE"] == "prefect-platform.local/base:first"


def test_every_order_includes_the_provenance_of_the_image(builder: _Builder) -> None:
    build(["seaweedfs"])
    arguments = builder.orders["seaweedfs"].arguments
    assert {"VERSION", "REVISION", "CREATED", "SOURCE"} <= set(arguments)


def test_the_packages_of_an_image_are_listed_once_and_discarded_with_it(
    builder: _Builder, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    (redis,) = build(["redis"])
    (old,) = build(["flows"])
    listed = json.loads(old.sbom.read_text())["name"]
    old.archive.unlink()
    build(["flows"])
    once = list(builder.listed)
    _another_base(base, monkeypatch)
    (new,) = build(["flows"])
    assert listed == old.reference
    assert once == ["redis", "flows"]
    assert not old.sbom.exists()
    assert new.sbom.exists()
    assert redis.sbom.exists()


def test_an_image_that_fails_its_check_is_not_exported_and_is_checked_again(
    builder: _Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise PlatformError("its flows would fail", next_step="correct them")

    with monkeypatch.context() as patched:
        patched.setattr(contract, "check", fails)
        for _ in range(2):
            with pytest.raises(PlatformError, match="its flows would fail"):
                build(["platform", "flows"])
    (_, flows) = build(["platform", "flows"])
    flows.archive.unlink()
    build(["platform", "flows"])

    assert builder.built == ["base", "platform", "flows"]
    assert builder.checked == ["flows"]


def test_every_image_is_built_with_the_labels_of_its_base(builder: _Builder, base: Base) -> None:
    images = build(["platform", "redis"])
    assert [builder.orders[image.name].labels for image in images] == [base.labels()] * 2
    assert base.labels()
    assert [image.base for image in images] == [base] * 2
