"""The choice of the engine and the node image, and the reason that is given for it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine import detection as engine_detection
from prefect_platform_cli.cluster.engine.detection import choose_engine, choose_node_image
from prefect_platform_cli.cluster.engine.existing import ExistingEngine
from prefect_platform_cli.cluster.engine.records import write_atomically
from prefect_platform_cli.host.paths import state_directory

_CLUSTER = "unit-test-of-detection"


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    """An HTTP server on a Unix socket, like a Docker engine."""

    daemon_threads = True

    def get_request(self) -> tuple[object, tuple[str, int]]:  # type: ignore[override]
        """Return the connection with a made-up address, which the request handler requires."""
        return super().get_request()[0], ("local", 0)


def _answering(status: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"Version": "1.0"}')

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    return Handler


@contextmanager
def _serving(server: UnixStreamServer | ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def engine_address(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a server that answers like a Docker engine."""
    path = tmp_path / "docker.sock"
    with _serving(_UnixServer(str(path), _answering(200))):
        yield f"unix://{path}"


@pytest.fixture
def registry() -> Iterator[Callable[[int], str]]:
    """Yield a function that starts a registry which answers every request with one status."""
    with ExitStack() as servers:

        def make(status: int) -> str:
            server = ThreadingHTTPServer(("127.0.0.1", 0), _answering(status))
            servers.enter_context(_serving(server))
            return f"http://127.0.0.1:{server.server_port}/v2/"

        yield make


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate root on a machine with apt-get and no engine; return the folder of its programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        engine_detection, "DEFAULT_DOCKER_HOST", f"unix://{tmp_path / 'nothing.sock'}"
    )
    return programs


def test_the_engine_in_docker_host_is_used(engine_address: str) -> None:
    choice = choose_engine(_CLUSTER, docker_host=engine_address)
    assert (choice.engine.kind, choice.engine.docker_host) == ("existing", engine_address)
    assert engine_address in choice.reason


def test_an_engine_at_the_default_address_is_used(
    engine_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_detection, "DEFAULT_DOCKER_HOST", engine_address)
    assert choose_engine(_CLUSTER).engine.docker_host == engine_address


def test_the_default_address_is_that_of_the_current_docker_context(
    engine_address: str, machine: Path
) -> None:
    (machine / "docker").write_text(f"#!/bin/sh\necho '{engine_address}'\n")
    (machine / "docker").chmod(0o755)
    assert choose_engine(_CLUSTER).engine.docker_host == engine_address


def test_a_private_engine_is_chosen_if_no_engine_answers() -> None:
    choice = choose_engine(_CLUSTER)
    assert choice.engine.kind == "private"
    assert "no Docker engine answers" in choice.reason


def test_an_unreachable_docker_host_is_refused_with_its_address(tmp_path: Path) -> None:
    address = f"unix://{tmp_path / 'gone.sock'}"
    with pytest.raises(PlatformError, match=r"gone\.sock \(DOCKER_HOST\) does not answer"):
        choose_engine(_CLUSTER, docker_host=address)


def test_an_engine_that_answers_with_an_error_status_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.sock"
    with (
        _serving(_UnixServer(str(path), _answering(500))),
        pytest.raises(PlatformError, match="does not answer: HTTP status 500 instead of 200"),
    ):
        choose_engine(_CLUSTER, docker_host=f"unix://{path}")


def test_a_private_engine_in_docker_host_is_not_mistaken_for_the_users_engine() -> None:
    address = "unix:///var/lib/prefect-platform/another/docker.sock"
    assert choose_engine(_CLUSTER, docker_host=address).engine.kind == "private"


def test_a_private_engine_can_be_forced_although_another_engine_answers(
    engine_address: str,
) -> None:
    choice = choose_engine(_CLUSTER, "private", docker_host=engine_address)
    assert (choice.engine.kind, choice.reason) == ("private", "ENGINE=private")


def test_forcing_an_existing_engine_is_refused_if_none_answers() -> None:
    with pytest.raises(PlatformError, match="does not answer"):
        choose_engine(_CLUSTER, "existing")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(PlatformError, match="ENGINE=podman is not valid"):
        choose_engine(_CLUSTER, "podman")


def test_a_private_engine_is_refused_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PlatformError, match=r"no Docker engine answers .* needs root"):
        choose_engine(_CLUSTER)


def test_a_private_engine_is_refused_on_other_distributions(machine: Path) -> None:
    (machine / "apt-get").unlink()
    with pytest.raises(PlatformError, match="needs Debian or Ubuntu"):
        choose_engine(_CLUSTER)


def test_a_cluster_stays_in_the_engine_that_it_was_created_in(tmp_path: Path) -> None:
    address = f"unix://{tmp_path / 'stopped.sock'}"
    write_atomically(state_directory(_CLUSTER) / "engine.json", f'{{"docker_host": "{address}"}}')
    choice = choose_engine(_CLUSTER)
    assert isinstance(choice.engine, ExistingEngine)
    assert choice.engine.docker_host == address
    assert not choice.engine.status().running
    with pytest.raises(PlatformError, match="in the existing engine, not in the private one"):
        choose_engine(_CLUSTER, "private")


@pytest.mark.parametrize("name", ["", "../x", ".x", "A", "a/b", "a" * 51])
def test_an_invalid_cluster_name_is_refused(name: str) -> None:
    with pytest.raises(PlatformError, match="the cluster name"):
        choose_engine(name)


@pytest.mark.parametrize(
    ("status", "source"), [(200, "registry"), (401, "registry"), (403, "build"), (503, "build")]
)
def test_the_registrys_status_decides_whether_the_node_image_is_pulled(
    registry: Callable[[int], str], status: int, source: str
) -> None:
    assert choose_node_image(registry=registry(status)).source == source


def test_the_node_image_is_built_if_the_registry_is_unreachable() -> None:
    choice = choose_node_image(registry="http://127.0.0.1:1/v2/")
    assert choice.source == "build"
    assert "127.0.0.1:1" in choice.reason


@pytest.mark.parametrize("source", ["registry", "build"])
def test_the_source_of_the_node_image_can_be_forced(source: str) -> None:
    choice = choose_node_image(source, registry="http://127.0.0.1:1/v2/")
    assert (choice.source, choice.reason) == (source, f"NODE_IMAGE={source}")


def test_an_unknown_node_image_source_is_refused() -> None:
    with pytest.raises(PlatformError, match="NODE_IMAGE=tape is not valid"):
        choose_node_image("tape")
