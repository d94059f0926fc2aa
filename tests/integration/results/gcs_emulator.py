"""Google Cloud Storage as a pod sees it: an emulator, and the tokens of workload identity."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from prefect_platform_cli.host.toolchain import tool
from tests.support import servers

ACCOUNT = "pool-default@example.iam.gserviceaccount.com"
_ANSWERS: dict[str, object] = {
    "service-accounts/default/": {"aliases": ["default"], "email": ACCOUNT, "scopes": []},
    "service-accounts/default/token": {
        "access_token": "of-the-pod",
        "expires_in": 3600,
        "token_type": "Bearer",
    },
}


class _Metadata(BaseHTTPRequestHandler):
    """Answers requests as GKE's metadata server does for a pod with workload identity."""

    def do_GET(self) -> None:
        """Answer a request of Google's libraries."""
        path = self.path.partition("?")[0].partition("/instance/")[2]
        if self.path.endswith("/project/project-id"):
            content, kind = b"example", "text/plain"
        else:
            content, kind = json.dumps(_ANSWERS.get(path)).encode(), "application/json"
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Do not log requests."""


class Emulator:
    """The running emulator, and the environment variables by which a pod finds it."""

    def __init__(self, url: str, metadata: str) -> None:
        self._url = url
        self.variables = {
            "STORAGE_EMULATOR_HOST": url,
            "GCE_METADATA_HOST": metadata,
            "GCE_METADATA_IP": metadata,  # the libraries try this address first
        }

    def create(self, name: str) -> None:
        """Create a bucket."""
        body = {"name": name}
        httpx.post(f"{self._url}/storage/v1/b?project=example", json=body).raise_for_status()

    def keys(self, name: str) -> list[str]:
        """Return the keys of all objects in a bucket."""
        listed = httpx.get(f"{self._url}/storage/v1/b/{name}/o").raise_for_status().json()
        return [each["name"] for each in listed.get("items", [])]


@contextmanager
def google_cloud_storage(directory: Path) -> Iterator[Emulator]:
    """Start the metadata server, and the emulator without any bucket."""
    (port,) = servers.free_ports(1)
    url, log = f"http://127.0.0.1:{port}", directory / "fake-gcs-server.log"
    listen = ("-host=127.0.0.1", f"-port={port}", "-scheme=http")
    public = (f"-public-host=127.0.0.1:{port}", f"-external-url={url}")
    metadata = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    threading.Thread(target=metadata.serve_forever, args=(0.01,), daemon=True).start()
    try:
        command = (tool("fake-gcs-server"), *listen, *public, "-backend=memory")
        with servers.running(log, port, *command):
            yield Emulator(url, f"127.0.0.1:{metadata.server_port}")
    finally:
        metadata.shutdown()
        metadata.server_close()
