"""With the plugin, a client waits for a server that is not up yet."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.support.servers import free_ports

_ASK = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.hello().status_code)
"""


def _ask(port: int, **variables: str) -> subprocess.Popen[str]:
    """Start a process that calls the API at `port` and retries for about a minute."""
    return subprocess.Popen(
        [sys.executable, "-c", _ASK],
        env={
            **os.environ,
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_CLIENT_MAX_RETRIES": "5",
            "PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")


def test_without_the_plugin_a_client_fails_at_the_first_refused_connection() -> None:
    asking = _ask(*free_ports(1))
    _, errors = asking.communicate(timeout=60)

    assert asking.returncode == 1
    assert "ConnectError" in errors


def test_with_the_plugin_a_client_waits_for_a_server_that_starts_later() -> None:
    (port,) = free_ports(1)
    asking = _ask(port, PREFECT_PLUGINS_ENABLED="true", PREFECT_PLUGINS_ALLOW="first-connection")
    # Once a client without the plugin has failed, this client was refused at least once too.
    refused = _ask(port)
    refused.communicate(timeout=60)
    with HTTPServer(("127.0.0.1", port), _Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        printed, errors = asking.communicate(timeout=120)
        server.shutdown()

    assert printed.strip() == "200", errors
