"""An existing cluster is used only if its context is named, and is never changed or removed."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.current import CurrentProvider
from tests.support.servers import free_ports


class _Api(BaseHTTPRequestHandler):
    """A Kubernetes API that answers every request with its version."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        fields = (
            *("major", "minor", "gitVersion", "gitCommit", "gitTreeState"),
            *("buildDate", "goVersion", "compiler", "platform"),
        )
        self.wfile.write(
            ("{" + ", ".join(f'"{name}": "v1.36.3"' for name in fields) + "}").encode()
        )

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def api() -> Iterator[str]:
    """Serve the API and yield its address."""
    server = HTTPServer(("127.0.0.1", 0), _Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the user's kubeconfig, which does not exist yet."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "theirs" / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "theirs").mkdir()
    return tmp_path / "theirs" / "config"


def _write(kubeconfig: Path, server: str, **cluster: str) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "production",
        "clusters": [{"name": "it", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [
            {"name": name, "context": {"cluster": "it", "user": "me"}}
            for name in ("production", "staging")
        ],
    }
    with kubeconfig.open("w") as stream:
        YAML().dump(content, stream)


def test_a_missing_kubeconfig_is_reported_with_its_path(kubeconfig: Path) -> None:
    with pytest.raises(PlatformError, match=f"{kubeconfig} does not exist"):
        CurrentProvider("unit", "staging")


def test_an_invalid_kubeconfig_is_reported_with_its_path(kubeconfig: Path) -> None:
    kubeconfig.write_text("contexts: [")
    with pytest.raises(PlatformError, match=f"{kubeconfig} is not a kubeconfig"):
        CurrentProvider("unit", "staging")


def test_a_context_name_is_required(kubeconfig: Path) -> None:
    _write(kubeconfig, "http://127.0.0.1:1")
    with pytest.raises(PlatformError, match=r"needs the name of a context.*production, staging"):
        CurrentProvider("unit", None)


def test_an_unknown_context_is_refused_with_a_list_of_the_known_ones(kubeconfig: Path) -> None:
    _write(kubeconfig, "http://127.0.0.1:1")
    with pytest.raises(PlatformError, match=r"has no context other; it has production, staging"):
        CurrentProvider("unit", "other")


def test_an_unreachable_api_is_reported_on_one_line(kubeconfig: Path) -> None:
    _write(kubeconfig, f"http://127.0.0.1:{free_ports(1)[0]}")
    provider = CurrentProvider("unit", "staging")
    assert not provider.status().running
    refused = r"the cluster of the context staging does not answer: .*refused"
    with pytest.raises(PlatformError, match=refused) as raised:
        provider.create()
    assert "\n" not in raised.value.message


def test_a_failed_tls_handshake_is_reported(kubeconfig: Path, api: str) -> None:
    _write(kubeconfig, api.replace("http:", "https:"))
    with pytest.raises(PlatformError, match=r"staging does not answer: .*SSL.*wrong version"):
        CurrentProvider("unit", "staging").create()


def test_create_finds_a_reachable_cluster_and_changes_nothing(kubeconfig: Path, api: str) -> None:
    _write(kubeconfig, api)
    provider = CurrentProvider("unit", "staging")
    assert not provider.create()
    assert dict(provider.status().facts)["api"] == "v1.36.3"


def test_an_existing_cluster_is_never_deleted(kubeconfig: Path) -> None:
    _write(kubeconfig, "http://127.0.0.1:1")
    with pytest.raises(PlatformError, match="was not created by this command"):
        CurrentProvider("unit", "staging").delete()


@pytest.mark.parametrize(("written", "found"), [("ca.crt", "{folder}/ca.crt"), ("/ca", "/ca")])
def test_the_copied_kubeconfig_selects_the_context_and_refers_to_the_same_files(
    kubeconfig: Path, written: str, found: str
) -> None:
    _write(kubeconfig, "https://127.0.0.1:1", **{"certificate-authority": written})
    before = kubeconfig.read_text()
    copy = CurrentProvider("unit", "staging").kubeconfig()
    content = YAML(typ="safe").load(copy)
    assert content["current-context"] == "staging"
    authority = content["clusters"][0]["cluster"]["certificate-authority"]
    assert authority == found.format(folder=kubeconfig.parent)
    assert copy.stat().st_mode & 0o077 == 0
    assert kubeconfig.read_text() == before
